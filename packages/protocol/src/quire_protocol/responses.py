"""The Responses API: request, answer and events. The one module that imports openai, whose item types these are."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias, get_args, get_origin, runtime_checkable

from openai.types.responses import (
    ResponseCodeInterpreterCallCodeDeltaEvent,
    ResponseCodeInterpreterCallCodeDoneEvent,
    ResponseCodeInterpreterCallCompletedEvent,
    ResponseCodeInterpreterCallInProgressEvent,
    ResponseCodeInterpreterCallInterpretingEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseInputItemParam,
    ResponseMcpCallArgumentsDeltaEvent,
    ResponseMcpCallArgumentsDoneEvent,
    ResponseMcpCallCompletedEvent,
    ResponseMcpCallInProgressEvent,
    ResponseOutputItem,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponsePrompt,
    ResponseReasoningTextDeltaEvent,
    ResponseReasoningTextDoneEvent,
    ResponseStatus,
    ResponseTextConfig,
    ResponseWebSearchCallCompletedEvent,
    ResponseWebSearchCallInProgressEvent,
    ResponseWebSearchCallSearchingEvent,
)
from openai.types.responses import ResponseCompletedEvent as OpenAIResponseCompletedEvent
from openai.types.responses import ResponseCreatedEvent as OpenAIResponseCreatedEvent
from openai.types.responses import ResponseInProgressEvent as OpenAIResponseInProgressEvent
from openai.types.responses.response import IncompleteDetails, ToolChoice
from openai.types.responses.response_reasoning_item import Content as ResponseReasoningTextContent
from openai.types.responses.tool import Tool
from openai.types.shared import Metadata, Reasoning
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    InstanceOf,
    PlainSerializer,
    Tag,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, core_schema
from typing_extensions import get_type_hints, is_typeddict

from quire_protocol.base import CacheSalt, OpenAIBaseModel, RequestModel, random_uuid
from quire_protocol.messages import ChatCompletionMessageParam
from quire_protocol.problems import unknown_tag
from quire_protocol.sampling import RequestOutputKind, SamplingParams, StructuredOutputsParams, settled

ServiceTier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority"]
Truncation: TypeAlias = Literal["auto", "disabled"]
ResponseInputOutputItem: TypeAlias = ResponseInputItemParam | ResponseOutputItem


# --- which of openai's many types a value is ----------------------------------------------------------------------


class _ByType:
    """Reads a value of a large union by what its `type` says, so that one mistake is one error and not two hundred.

    Within one type openai's classes come before its typed dicts: a whole output item (of an earlier answer, say)
    becomes its class, any other item stays a dict. And where the typed dicts say Iterable, a list is built: pydantic
    would make it a lazy iterator, good for one pass, that reports its errors too late.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        members = sorted(_members(source), key=is_typeddict)  # a stable sort: classes first
        choices: dict[str, list[CoreSchema]] = {}
        for member in members:
            schema = handler.generate_schema(member)
            _build_lists(schema, handler, set())
            for tag in _tags(member):
                choices.setdefault(tag, []).append(schema)
        tags = list(choices)
        types = sorted({"message" if tag.startswith(_OF_ROLE) else tag for tag in tags} - {_WORD})
        return core_schema.tagged_union_schema(
            {tag: core_schema.union_schema(list(found), mode="left_to_right") for tag, found in choices.items()},
            discriminator=lambda value: _choose(tags, value),
            **unknown_tag(f"one of {', '.join(map(repr, types))}", key="type"),
        )


_WORD = "a word"  # the tag of a member that is a Literal, such as tool_choice's "auto"
_OF_ROLE = "message of "  # begins the tags of messages, which are told apart by their role too


def _choose(tags: list[str], value: object) -> str | None:
    """The tag of a value. One that is nothing a union could hold gets any tag, and fails as its members would."""
    if isinstance(value, str) and _WORD in tags:
        return _WORD
    if not isinstance(value, Mapping | BaseModel):
        return tags[0]
    read = value.get if isinstance(value, Mapping) else partial(getattr, value)
    type_, role = read("type", None), read("role", None)
    if type_ == "message" or (type_ is None and role is not None):
        return f"{_OF_ROLE}{role}" if f"{_OF_ROLE}{role}" in tags else f"{_OF_ROLE}user"
    if type_ is None and read("id", None) is not None:
        return "item_reference"
    return type_ if isinstance(type_, str) else None


def _tags(member: Any) -> list[str]:
    """Every tag that `_choose` may give to values of this member of a union."""
    if get_origin(member) is Literal:
        return [_WORD]
    types = _words(member, "type")
    return [f"{_OF_ROLE}{role}" for role in _words(member, "role")] if types == ["message"] else types


def _members(union: Any) -> list[Any]:
    """The types a union is made of, its annotations and nested unions taken apart."""
    if get_origin(union) is Annotated:
        return _members(get_args(union)[0])
    if get_origin(union) is Literal or not get_args(union):
        return [union]
    return [member for part in get_args(union) for member in _members(part)]


def _words(member: Any, field: str) -> list[str]:
    """The words that this field, a (possibly optional) Literal, allows."""
    annotation = get_type_hints(member)[field] if is_typeddict(member) else member.model_fields[field].annotation
    return [word for part in _members(annotation) if get_origin(part) is Literal for word in get_args(part)]


def _build_lists(schema: Any, handler: GetCoreSchemaHandler, seen: set[int]) -> None:
    """Turn the lazy iterators in a typed dict's schema into lists, in place."""
    if isinstance(schema, dict) and schema.get("type") == "definition-ref":
        schema = handler.resolve_ref_schema(schema)
    if id(schema) in seen or (isinstance(schema, dict) and schema.get("type") == "model"):
        return
    seen.add(id(schema))
    if isinstance(schema, dict):
        if schema.get("type") == "generator":
            schema["type"] = "list"
        for part in schema.values():
            _build_lists(part, handler, seen)
    elif isinstance(schema, (list, tuple)):
        for part in schema:
            _build_lists(part, handler, seen)


def _text_or_items(value: object) -> str:
    return "text" if isinstance(value, str) else "items"


# --- raw messages -------------------------------------------------------------------------------------------------


@runtime_checkable
class OpenAIHarmonyMessage(Protocol):
    """A message of the harmony format, known by its `to_dict`: the package that defines it is no dependency here."""

    def to_dict(self) -> dict[str, Any]:
        """The message as plain data."""


def serialize_message(message: Any) -> Any:
    """One message as plain data. Harmony's own serialization loses text content, its `to_dict` does not."""
    if isinstance(message, OpenAIHarmonyMessage):
        return message.to_dict()
    return message.model_dump(mode="json") if isinstance(message, BaseModel) else message


def serialize_messages(messages: Iterable[Any] | None) -> list[Any] | None:
    """Every message as plain data; None for none at all."""
    return [serialize_message(message) for message in messages] if messages else None


_HarmonyMessage = Annotated[InstanceOf[OpenAIHarmonyMessage], SkipJsonSchema(), PlainSerializer(serialize_message)]


class ResponseRawMessageAndToken(OpenAIBaseModel):
    """A message as the model saw or wrote it. Where text and tokens disagree, the tokens are right."""

    message: str
    tokens: list[int]
    type: Literal["raw_message_tokens"] = "raw_message_tokens"


ResponseInputOutputMessage: TypeAlias = list[ChatCompletionMessageParam] | list[ResponseRawMessageAndToken]


# --- the request --------------------------------------------------------------------------------------------------


class ResponsesRequest(RequestModel):
    """Body of `POST /v1/responses`: OpenAI's fields first, in the order of its reference, then vLLM's."""

    background: bool | None = False
    """Answer at once with a queued response, and work on it afterwards; needs `store`."""
    include: (
        list[
            Literal[
                "code_interpreter_call.outputs",
                "computer_call_output.output.image_url",
                "file_search_call.results",
                "message.input_image.image_url",
                "message.output_text.logprobs",
                "reasoning.encrypted_content",
            ]
        ]
        | None
    ) = None
    """What the answer should hold besides the usual."""
    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Annotated[ResponseInputOutputItem, _ByType()]], Tag("items")],
        Discriminator(_text_or_items),
    ]
    """Text, or items: messages, function calls and their results, reasoning. Output items of an earlier answer become
    openai's classes for them, other items are dicts."""
    instructions: str | None = None
    """System message of this turn; an earlier response's is not carried over."""
    max_output_tokens: int | None = None
    """Most tokens to write, reasoning included."""
    max_tool_calls: int | None = None
    """Most calls of built-in tools."""
    metadata: Metadata | None = None
    """Labels that come back with the answer."""
    model: str | None = None
    """Name of a served model; the server's own when absent."""
    logit_bias: dict[str, float] | None = None
    """Added to the logits of these token ids."""
    parallel_tool_calls: bool | None = True
    """Whether one answer may call several tools."""
    previous_response_id: str | None = None
    """Continue the conversation of this stored response."""
    prompt: ResponsePrompt | None = None
    """A prompt template kept at OpenAI; there are none here, so it must be absent."""
    reasoning: Reasoning | None = None
    """How hard to think, and what to show of it."""
    service_tier: ServiceTier = "auto"
    """Echoed in the answer."""
    store: bool | None = True
    """Keep the response for later retrieval."""
    stream: bool | None = False
    """Answer as server-sent events."""
    temperature: float | None = None
    """Randomness; 0 takes the likeliest token. The server's default when absent."""
    text: ResponseTextConfig | None = None
    """Format of the text: plain, a JSON object, or JSON of a schema."""
    tool_choice: Annotated[ToolChoice, _ByType()] = "auto"
    """Whether to call a tool, and which."""
    tools: list[Annotated[Tool, _ByType()]] = Field(default_factory=list)
    """Tools that may be called."""
    top_logprobs: int | None = 0
    """Alternatives per token; shown when `include` names message.output_text.logprobs."""
    top_p: float | None = None
    """Sample among the likeliest tokens that together reach this probability."""
    top_k: int | None = None
    """Sample among this many likeliest tokens."""
    truncation: Truncation | None = "disabled"
    """What to do with an input that is too long: refuse it, or (auto) drop its oldest part."""
    user: str | None = None
    """The caller's user; echoed."""

    request_id: str = Field(default_factory=lambda: f"resp_{random_uuid()}")
    """Id of the request and of its response; made up when absent."""
    mm_processor_kwargs: dict[str, Any] | None = None
    """Further arguments of the model's multimodal processor."""
    priority: int = 0
    """Lower runs earlier; only 0 unless the server schedules by priority."""
    cache_salt: CacheSalt | None = None
    """Only requests with the same salt share cached prompts; a secret one keeps others from guessing prompts."""
    enable_response_messages: bool = False
    """Show in the answer the messages as the model saw and wrote them."""
    previous_input_messages: list[_HarmonyMessage | dict[str, Any]] | None = None
    """The conversation so far in harmony format, instead of `previous_response_id`."""

    _DEFAULT_SAMPLING_PARAMS: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    )

    @field_validator("store")
    @classmethod
    def _background_needs_store(cls, store: bool | None, info: ValidationInfo) -> bool | None:
        if info.data.get("background") and not store:
            raise ValueError("a background response is fetched later, so it needs store to be true.")
        return store

    @field_validator("prompt", mode="before")
    @classmethod
    def _no_templates(cls, prompt: object) -> None:
        if prompt is not None:
            raise ValueError("prompt names a template kept at OpenAI, none of which is here; send the text as input.")

    def is_include_output_logprobs(self) -> bool:
        """Whether the text's log-probabilities belong into the answer."""
        return "message.output_text.logprobs" in (self.include or ())

    def to_sampling_params(
        self, default_max_tokens: int, default_sampling_params: Mapping[str, Any] | None = None
    ) -> SamplingParams:
        """How to sample: what the request says, else the server's defaults, else none of each."""
        limit = self.max_output_tokens
        return SamplingParams.from_optional(
            **settled(self, self._DEFAULT_SAMPLING_PARAMS, default_sampling_params),
            max_tokens=default_max_tokens if limit is None else min(limit, default_max_tokens),
            logprobs=self.top_logprobs if self.is_include_output_logprobs() else None,
            stop_token_ids=(default_sampling_params or {}).get("stop_token_ids"),
            output_kind=RequestOutputKind.DELTA if self.stream else RequestOutputKind.FINAL_ONLY,
            structured_outputs=self._structured_outputs(),
            logit_bias=self.logit_bias,
        )

    def _structured_outputs(self) -> StructuredOutputsParams | None:
        form = self.text.format if self.text is not None else None
        if form is None or form.type == "text":
            return None
        if form.type == "json_object":
            return StructuredOutputsParams(json_object=True)
        return StructuredOutputsParams(json=form.schema_)


# --- the answer ---------------------------------------------------------------------------------------------------


class InputTokensDetails(OpenAIBaseModel):
    """Where the input's tokens came from; the lists have one number for each turn with the model."""

    cached_tokens: int
    """Taken from the prefix cache."""
    input_tokens_per_turn: list[int] = Field(default_factory=list)
    cached_tokens_per_turn: list[int] = Field(default_factory=list)


class OutputTokensDetails(OpenAIBaseModel):
    """What the output's tokens were; the lists have one number for each turn with the model."""

    reasoning_tokens: int = 0
    tool_output_tokens: int = 0
    output_tokens_per_turn: list[int] = Field(default_factory=list)
    tool_output_tokens_per_turn: list[int] = Field(default_factory=list)


class ResponseUsage(OpenAIBaseModel):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponsesResponse(OpenAIBaseModel):
    """A response, finished or on its way: most of it echoes the request as it was settled."""

    id: str = Field(default_factory=lambda: f"resp_{random_uuid()}")
    created_at: int = Field(default_factory=lambda: int(time.time()))
    incomplete_details: IncompleteDetails | None = None
    """Why it ended early."""
    instructions: str | None = None
    metadata: Metadata | None = None
    model: str
    object: Literal["response"] = "response"
    output: list[Annotated[ResponseOutputItem, _ByType()]]
    """What the model produced: messages, reasoning, tool calls."""
    parallel_tool_calls: bool
    temperature: float
    tool_choice: Annotated[ToolChoice, _ByType()]
    tools: list[Annotated[Tool, _ByType()]]
    top_p: float
    background: bool
    max_output_tokens: int
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    prompt: ResponsePrompt | None = None
    reasoning: Reasoning | None = None
    service_tier: ServiceTier
    status: ResponseStatus
    text: ResponseTextConfig | None = None
    top_logprobs: int | None = None
    truncation: Truncation
    usage: ResponseUsage | None = None
    user: str | None = None

    input_messages: ResponseInputOutputMessage | None = None
    """What the model saw, when the request enabled it."""
    output_messages: ResponseInputOutputMessage | None = None
    """What the model wrote, when the request enabled it."""

    @field_serializer("input_messages", "output_messages", when_used="json")
    def _serialize_messages(self, messages: list[Any] | None) -> list[Any] | None:
        return serialize_messages(messages)

    @classmethod
    def from_request(
        cls,
        request: ResponsesRequest,
        sampling_params: SamplingParams,
        model_name: str,
        created_time: int,
        output: list[ResponseOutputItem],
        status: ResponseStatus,
        usage: ResponseUsage | None = None,
        input_messages: ResponseInputOutputMessage | None = None,
        output_messages: ResponseInputOutputMessage | None = None,
    ) -> Self:
        """The response to a request, with `sampling_params` as settled: a limit among them. A null is its default."""
        assert sampling_params.max_tokens is not None
        return cls(
            id=request.request_id,
            created_at=created_time,
            incomplete_details=IncompleteDetails(reason="max_output_tokens") if status == "incomplete" else None,
            instructions=request.instructions,
            metadata=request.metadata,
            model=model_name,
            output=output,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            temperature=sampling_params.temperature,
            tool_choice=request.tool_choice,
            tools=request.tools,
            top_p=sampling_params.top_p,
            background=bool(request.background),
            max_output_tokens=sampling_params.max_tokens,
            max_tool_calls=request.max_tool_calls,
            previous_response_id=request.previous_response_id,
            prompt=request.prompt,
            reasoning=request.reasoning,
            service_tier=request.service_tier,
            status=status,
            text=request.text,
            top_logprobs=sampling_params.logprobs,
            truncation=request.truncation or "disabled",
            usage=usage,
            user=request.user,
            input_messages=input_messages,
            output_messages=output_messages,
        )


# --- the events ---------------------------------------------------------------------------------------------------


class _ReasoningPartEvent(OpenAIBaseModel):
    content_index: int
    """Which part of the item it is."""
    item_id: str
    """Id of the item that the part belongs to."""
    output_index: int
    """Which item of the output that is."""
    part: ResponseReasoningTextContent
    """The part itself."""
    sequence_number: int
    """Number of this event in its stream."""


class ResponseReasoningPartAddedEvent(_ReasoningPartEvent):
    """A part of a reasoning item begins; openai has no type of its own for it."""

    type: Literal["response.reasoning_part.added"]


class ResponseReasoningPartDoneEvent(_ReasoningPartEvent):
    """A part of a reasoning item is complete; openai has no type of its own for it."""

    type: Literal["response.reasoning_part.done"]


class ResponseCreatedEvent(OpenAIResponseCreatedEvent):
    """The first event of a stream, with our response in place of openai's."""

    response: ResponsesResponse  # type: ignore[assignment]


class ResponseInProgressEvent(OpenAIResponseInProgressEvent):
    """Work has begun, with our response in place of openai's."""

    response: ResponsesResponse  # type: ignore[assignment]


class ResponseCompletedEvent(OpenAIResponseCompletedEvent):
    """The last event of a stream, with our response in place of openai's."""

    response: ResponsesResponse  # type: ignore[assignment]


StreamingResponsesResponse: TypeAlias = (
    ResponseCreatedEvent
    | ResponseInProgressEvent
    | ResponseCompletedEvent
    | ResponseOutputItemAddedEvent
    | ResponseOutputItemDoneEvent
    | ResponseContentPartAddedEvent
    | ResponseContentPartDoneEvent
    | ResponseReasoningTextDeltaEvent
    | ResponseReasoningTextDoneEvent
    | ResponseReasoningPartAddedEvent
    | ResponseReasoningPartDoneEvent
    | ResponseCodeInterpreterCallInProgressEvent
    | ResponseCodeInterpreterCallCodeDeltaEvent
    | ResponseWebSearchCallInProgressEvent
    | ResponseWebSearchCallSearchingEvent
    | ResponseWebSearchCallCompletedEvent
    | ResponseCodeInterpreterCallCodeDoneEvent
    | ResponseCodeInterpreterCallInterpretingEvent
    | ResponseCodeInterpreterCallCompletedEvent
    | ResponseMcpCallArgumentsDeltaEvent
    | ResponseMcpCallArgumentsDoneEvent
    | ResponseMcpCallInProgressEvent
    | ResponseMcpCallCompletedEvent
)
