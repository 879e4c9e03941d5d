"""The OpenAI and vLLM request and response schemas: every public name, each imported when it is first used.

So `from quire_protocol import ChatCompletionRequest` pays for that schema only, and needs neither torch nor openai.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire_protocol.__about__ import __version__ as __version__
    from quire_protocol.audio import AudioFile as AudioFile
    from quire_protocol.audio import AudioResponseFormat as AudioResponseFormat
    from quire_protocol.audio import TranscriptionRequest as TranscriptionRequest
    from quire_protocol.audio import TranscriptionResponse as TranscriptionResponse
    from quire_protocol.audio import TranscriptionResponseStreamChoice as TranscriptionResponseStreamChoice
    from quire_protocol.audio import TranscriptionResponseVariant as TranscriptionResponseVariant
    from quire_protocol.audio import TranscriptionResponseVerbose as TranscriptionResponseVerbose
    from quire_protocol.audio import TranscriptionSegment as TranscriptionSegment
    from quire_protocol.audio import TranscriptionStreamResponse as TranscriptionStreamResponse
    from quire_protocol.audio import TranscriptionUsageAudio as TranscriptionUsageAudio
    from quire_protocol.audio import TranscriptionWord as TranscriptionWord
    from quire_protocol.audio import TranslationRequest as TranslationRequest
    from quire_protocol.audio import TranslationResponse as TranslationResponse
    from quire_protocol.audio import TranslationResponseStreamChoice as TranslationResponseStreamChoice
    from quire_protocol.audio import TranslationResponseVariant as TranslationResponseVariant
    from quire_protocol.audio import TranslationResponseVerbose as TranslationResponseVerbose
    from quire_protocol.audio import TranslationSegment as TranslationSegment
    from quire_protocol.audio import TranslationStreamResponse as TranslationStreamResponse
    from quire_protocol.audio import TranslationWord as TranslationWord
    from quire_protocol.base import OpenAIBaseModel as OpenAIBaseModel
    from quire_protocol.base import RequestModel as RequestModel
    from quire_protocol.base import random_uuid as random_uuid
    from quire_protocol.cancellation import AbortRequest as AbortRequest
    from quire_protocol.cancellation import AbortResponse as AbortResponse
    from quire_protocol.cancellation import Cancellation as Cancellation
    from quire_protocol.capabilities import Capabilities as Capabilities
    from quire_protocol.capabilities import FormatCapabilities as FormatCapabilities
    from quire_protocol.capabilities import RequestCapabilities as RequestCapabilities
    from quire_protocol.chat import Annotation as Annotation
    from quire_protocol.chat import AnnotationURLCitation as AnnotationURLCitation
    from quire_protocol.chat import ChatCompletionAudio as ChatCompletionAudio
    from quire_protocol.chat import ChatCompletionRequest as ChatCompletionRequest
    from quire_protocol.chat import ChatCompletionResponse as ChatCompletionResponse
    from quire_protocol.chat import ChatCompletionResponseChoice as ChatCompletionResponseChoice
    from quire_protocol.chat import ChatCompletionResponseStreamChoice as ChatCompletionResponseStreamChoice
    from quire_protocol.chat import ChatCompletionStreamResponse as ChatCompletionStreamResponse
    from quire_protocol.chat import ChatMessage as ChatMessage
    from quire_protocol.chat import DeltaMessage as DeltaMessage
    from quire_protocol.client import parse_reply as parse_reply
    from quire_protocol.client import to_openai_kwargs as to_openai_kwargs
    from quire_protocol.completions import CompletionRequest as CompletionRequest
    from quire_protocol.completions import CompletionResponse as CompletionResponse
    from quire_protocol.completions import CompletionResponseChoice as CompletionResponseChoice
    from quire_protocol.completions import CompletionResponseStreamChoice as CompletionResponseStreamChoice
    from quire_protocol.completions import CompletionStreamResponse as CompletionStreamResponse
    from quire_protocol.conversation import ConversationRequest as ConversationRequest
    from quire_protocol.errors import ERROR_REASONS as ERROR_REASONS
    from quire_protocol.errors import ERROR_TYPES as ERROR_TYPES
    from quire_protocol.errors import ErrorInfo as ErrorInfo
    from quire_protocol.errors import ErrorResponse as ErrorResponse
    from quire_protocol.formats import AnyResponseFormat as AnyResponseFormat
    from quire_protocol.formats import AnyStructuralTagResponseFormat as AnyStructuralTagResponseFormat
    from quire_protocol.formats import JsonSchemaResponseFormat as JsonSchemaResponseFormat
    from quire_protocol.formats import LegacyStructuralTag as LegacyStructuralTag
    from quire_protocol.formats import LegacyStructuralTagResponseFormat as LegacyStructuralTagResponseFormat
    from quire_protocol.formats import ResponseFormat as ResponseFormat
    from quire_protocol.formats import StructuralTagResponseFormat as StructuralTagResponseFormat
    from quire_protocol.generate import GenerateRequest as GenerateRequest
    from quire_protocol.generate import GenerateResponse as GenerateResponse
    from quire_protocol.generate import GenerateResponseChoice as GenerateResponseChoice
    from quire_protocol.limits import DEFAULT_LIMITS as DEFAULT_LIMITS
    from quire_protocol.limits import Bound as Bound
    from quire_protocol.limits import LimitError as LimitError
    from quire_protocol.limits import Limits as Limits
    from quire_protocol.limits import check_limits as check_limits
    from quire_protocol.logits_processors import LogitsProcessorConstructor as LogitsProcessorConstructor
    from quire_protocol.logits_processors import LogitsProcessors as LogitsProcessors
    from quire_protocol.logits_processors import get_logits_processors as get_logits_processors
    from quire_protocol.logprobs import ChatCompletionLogProb as ChatCompletionLogProb
    from quire_protocol.logprobs import ChatCompletionLogProbs as ChatCompletionLogProbs
    from quire_protocol.logprobs import ChatCompletionLogProbsContent as ChatCompletionLogProbsContent
    from quire_protocol.logprobs import CompletionLogProbs as CompletionLogProbs
    from quire_protocol.logprobs import Logprob as Logprob
    from quire_protocol.lora import LoadLoRAAdapterRequest as LoadLoRAAdapterRequest
    from quire_protocol.lora import UnloadLoRAAdapterRequest as UnloadLoRAAdapterRequest
    from quire_protocol.messages import ChatCompletionContentPartParam as ChatCompletionContentPartParam
    from quire_protocol.messages import ChatCompletionMessageParam as ChatCompletionMessageParam
    from quire_protocol.models import ModelCard as ModelCard
    from quire_protocol.models import ModelList as ModelList
    from quire_protocol.models import ModelPermission as ModelPermission
    from quire_protocol.responses import InputTokensDetails as InputTokensDetails
    from quire_protocol.responses import OpenAIHarmonyMessage as OpenAIHarmonyMessage
    from quire_protocol.responses import OutputTokensDetails as OutputTokensDetails
    from quire_protocol.responses import ResponseCompletedEvent as ResponseCompletedEvent
    from quire_protocol.responses import ResponseCreatedEvent as ResponseCreatedEvent
    from quire_protocol.responses import ResponseInProgressEvent as ResponseInProgressEvent
    from quire_protocol.responses import ResponseInputOutputItem as ResponseInputOutputItem
    from quire_protocol.responses import ResponseInputOutputMessage as ResponseInputOutputMessage
    from quire_protocol.responses import ResponseRawMessageAndToken as ResponseRawMessageAndToken
    from quire_protocol.responses import ResponseReasoningPartAddedEvent as ResponseReasoningPartAddedEvent
    from quire_protocol.responses import ResponseReasoningPartDoneEvent as ResponseReasoningPartDoneEvent
    from quire_protocol.responses import ResponsesRequest as ResponsesRequest
    from quire_protocol.responses import ResponsesResponse as ResponsesResponse
    from quire_protocol.responses import ResponseUsage as ResponseUsage
    from quire_protocol.responses import StreamingResponsesResponse as StreamingResponsesResponse
    from quire_protocol.responses import serialize_message as serialize_message
    from quire_protocol.responses import serialize_messages as serialize_messages
    from quire_protocol.sampling import BeamSearchParams as BeamSearchParams
    from quire_protocol.sampling import RequestOutputKind as RequestOutputKind
    from quire_protocol.sampling import SamplingParams as SamplingParams
    from quire_protocol.sampling import StructuredOutputsParams as StructuredOutputsParams
    from quire_protocol.sampling_request import SamplingRequest as SamplingRequest
    from quire_protocol.tokenization import DetokenizeRequest as DetokenizeRequest
    from quire_protocol.tokenization import DetokenizeResponse as DetokenizeResponse
    from quire_protocol.tokenization import TokenizeChatRequest as TokenizeChatRequest
    from quire_protocol.tokenization import TokenizeCompletionRequest as TokenizeCompletionRequest
    from quire_protocol.tokenization import TokenizeRequest as TokenizeRequest
    from quire_protocol.tokenization import TokenizeResponse as TokenizeResponse
    from quire_protocol.tokenization import TokenizerInfoResponse as TokenizerInfoResponse
    from quire_protocol.tools import ChatCompletionNamedFunction as ChatCompletionNamedFunction
    from quire_protocol.tools import ChatCompletionNamedToolChoiceParam as ChatCompletionNamedToolChoiceParam
    from quire_protocol.tools import ChatCompletionToolsParam as ChatCompletionToolsParam
    from quire_protocol.tools import DeltaFunctionCall as DeltaFunctionCall
    from quire_protocol.tools import DeltaToolCall as DeltaToolCall
    from quire_protocol.tools import ExtractedToolCallInformation as ExtractedToolCallInformation
    from quire_protocol.tools import FunctionCall as FunctionCall
    from quire_protocol.tools import FunctionDefinition as FunctionDefinition
    from quire_protocol.tools import ToolCall as ToolCall
    from quire_protocol.tools import make_tool_call_id as make_tool_call_id
    from quire_protocol.unknown import KNOWN_MISTAKES as KNOWN_MISTAKES
    from quire_protocol.unknown import unknown_fields as unknown_fields
    from quire_protocol.usage import CompletionTokenUsageInfo as CompletionTokenUsageInfo
    from quire_protocol.usage import PerRequestMetrics as PerRequestMetrics
    from quire_protocol.usage import PromptTokenUsageInfo as PromptTokenUsageInfo
    from quire_protocol.usage import RequestResponseMetadata as RequestResponseMetadata
    from quire_protocol.usage import StreamOptions as StreamOptions
    from quire_protocol.usage import UsageInfo as UsageInfo

_MODULE_OF = {
    "AbortRequest": "cancellation",
    "AbortResponse": "cancellation",
    "Annotation": "chat",
    "AnnotationURLCitation": "chat",
    "AnyResponseFormat": "formats",
    "AnyStructuralTagResponseFormat": "formats",
    "AudioFile": "audio",
    "AudioResponseFormat": "audio",
    "BeamSearchParams": "sampling",
    "Bound": "limits",
    "Cancellation": "cancellation",
    "Capabilities": "capabilities",
    "ChatCompletionAudio": "chat",
    "ChatCompletionContentPartParam": "messages",
    "ChatCompletionLogProb": "logprobs",
    "ChatCompletionLogProbs": "logprobs",
    "ChatCompletionLogProbsContent": "logprobs",
    "ChatCompletionMessageParam": "messages",
    "ChatCompletionNamedFunction": "tools",
    "ChatCompletionNamedToolChoiceParam": "tools",
    "ChatCompletionRequest": "chat",
    "ChatCompletionResponse": "chat",
    "ChatCompletionResponseChoice": "chat",
    "ChatCompletionResponseStreamChoice": "chat",
    "ChatCompletionStreamResponse": "chat",
    "ChatCompletionToolsParam": "tools",
    "ChatMessage": "chat",
    "CompletionLogProbs": "logprobs",
    "CompletionRequest": "completions",
    "CompletionResponse": "completions",
    "CompletionResponseChoice": "completions",
    "CompletionResponseStreamChoice": "completions",
    "CompletionStreamResponse": "completions",
    "CompletionTokenUsageInfo": "usage",
    "ConversationRequest": "conversation",
    "DEFAULT_LIMITS": "limits",
    "DeltaFunctionCall": "tools",
    "DeltaMessage": "chat",
    "DeltaToolCall": "tools",
    "DetokenizeRequest": "tokenization",
    "DetokenizeResponse": "tokenization",
    "ERROR_REASONS": "errors",
    "ERROR_TYPES": "errors",
    "ErrorInfo": "errors",
    "ErrorResponse": "errors",
    "ExtractedToolCallInformation": "tools",
    "FormatCapabilities": "capabilities",
    "FunctionCall": "tools",
    "FunctionDefinition": "tools",
    "GenerateRequest": "generate",
    "GenerateResponse": "generate",
    "GenerateResponseChoice": "generate",
    "InputTokensDetails": "responses",
    "JsonSchemaResponseFormat": "formats",
    "KNOWN_MISTAKES": "unknown",
    "LegacyStructuralTag": "formats",
    "LegacyStructuralTagResponseFormat": "formats",
    "LimitError": "limits",
    "Limits": "limits",
    "LoadLoRAAdapterRequest": "lora",
    "LogitsProcessorConstructor": "logits_processors",
    "LogitsProcessors": "logits_processors",
    "Logprob": "logprobs",
    "ModelCard": "models",
    "ModelList": "models",
    "ModelPermission": "models",
    "OpenAIBaseModel": "base",
    "OpenAIHarmonyMessage": "responses",
    "OutputTokensDetails": "responses",
    "PerRequestMetrics": "usage",
    "PromptTokenUsageInfo": "usage",
    "RequestModel": "base",
    "RequestCapabilities": "capabilities",
    "RequestOutputKind": "sampling",
    "RequestResponseMetadata": "usage",
    "ResponseCompletedEvent": "responses",
    "ResponseCreatedEvent": "responses",
    "ResponseFormat": "formats",
    "ResponseInProgressEvent": "responses",
    "ResponseInputOutputItem": "responses",
    "ResponseInputOutputMessage": "responses",
    "ResponseRawMessageAndToken": "responses",
    "ResponseReasoningPartAddedEvent": "responses",
    "ResponseReasoningPartDoneEvent": "responses",
    "ResponseUsage": "responses",
    "ResponsesRequest": "responses",
    "ResponsesResponse": "responses",
    "SamplingParams": "sampling",
    "SamplingRequest": "sampling_request",
    "StreamOptions": "usage",
    "StreamingResponsesResponse": "responses",
    "StructuralTagResponseFormat": "formats",
    "StructuredOutputsParams": "sampling",
    "TokenizeChatRequest": "tokenization",
    "TokenizeCompletionRequest": "tokenization",
    "TokenizeRequest": "tokenization",
    "TokenizeResponse": "tokenization",
    "TokenizerInfoResponse": "tokenization",
    "ToolCall": "tools",
    "TranscriptionRequest": "audio",
    "TranscriptionResponse": "audio",
    "TranscriptionResponseStreamChoice": "audio",
    "TranscriptionResponseVariant": "audio",
    "TranscriptionResponseVerbose": "audio",
    "TranscriptionSegment": "audio",
    "TranscriptionStreamResponse": "audio",
    "TranscriptionUsageAudio": "audio",
    "TranscriptionWord": "audio",
    "TranslationRequest": "audio",
    "TranslationResponse": "audio",
    "TranslationResponseStreamChoice": "audio",
    "TranslationResponseVariant": "audio",
    "TranslationResponseVerbose": "audio",
    "TranslationSegment": "audio",
    "TranslationStreamResponse": "audio",
    "TranslationWord": "audio",
    "UnloadLoRAAdapterRequest": "lora",
    "UsageInfo": "usage",
    "__version__": "__about__",
    "check_limits": "limits",
    "get_logits_processors": "logits_processors",
    "make_tool_call_id": "tools",
    "parse_reply": "client",
    "random_uuid": "base",
    "serialize_message": "responses",
    "serialize_messages": "responses",
    "to_openai_kwargs": "client",
    "unknown_fields": "unknown",
}
"""Every public name, and the module here that defines it."""

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
