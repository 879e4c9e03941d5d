"""Chat completions: POST /v1/chat/completions, as asked, answered and streamed."""

import time
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from quire_protocol.base import Many, OpenAIBaseModel, random_uuid
from quire_protocol.conversation import ConversationRequest
from quire_protocol.errors import ErrorInfo
from quire_protocol.logprobs import ChatCompletionLogProbs, Logprob
from quire_protocol.problems import field_error, shown
from quire_protocol.sampling import SamplingParams
from quire_protocol.sampling_request import SamplingRequest
from quire_protocol.tools import ChatCompletionNamedToolChoiceParam, DeltaToolCall, FunctionCall, ToolCall
from quire_protocol.usage import UsageInfo


class ChatCompletionRequest(SamplingRequest, ConversationRequest):
    """Answer a conversation."""

    logprobs: bool | None = False
    """Report log-probabilities of the answer's tokens."""
    top_logprobs: int | None = 0
    """Likeliest tokens to report at each position of the answer; -1 reports all. Needs `logprobs`."""
    max_tokens: int | None = Field(default=None, json_schema_extra={"deprecated": True})
    """Longest answer, in tokens; the older name of `max_completion_tokens`."""
    max_completion_tokens: int | None = None
    """Longest answer, in tokens, reasoning included; what the context has room for when absent."""
    tool_choice: Literal["none", "auto", "required"] | ChatCompletionNamedToolChoiceParam | None = "none"
    """Whether the model calls tools: not, as it likes, at all events, or this one. With `tools`, auto when absent."""
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    """How long to reason, for models whose chat template knows this."""
    include_reasoning: bool = True
    """Return the reasoning beside the answer. `logprobs` and `return_token_ids` have it in any case."""
    thinking_token_budget: int | None = None
    """Longest reasoning, in tokens: its end is then written for the model. -1 is no limit."""
    parallel_tool_calls: bool | None = True
    """Allow several tool calls in one answer."""
    bad_words: Many[str] = Field(default_factory=list)
    """Words that the answer must not contain."""

    echo: bool = False
    """Put the last message before the answer, if both have the same role."""
    documents: Many[dict[str, str]] | None = None
    """Documents to answer from, for chat templates that know them; best with the keys `title` and `text`."""
    vllm_xargs: dict[str, str | int | float | Many[str | int | float]] | None = None
    """Arguments for extensions of the server."""

    def to_sampling_params(
        self,
        max_tokens: int,
        logits_processor_pattern: str | None,
        default_sampling_params: Mapping[str, Any] | None = None,
    ) -> SamplingParams:
        """How to draw at most `max_tokens` tokens. ValidationError, located at the field.

        `logits_processor_pattern` is what the server allows of `logits_processors`; `default_sampling_params` settle
        what the request leaves open.
        """
        return self._sampling_params(
            logits_processor_pattern,
            default_sampling_params,
            self.vllm_xargs,
            max_tokens=max_tokens,
            logprobs=self.top_logprobs or 0 if self.logprobs else None,
            prompt_logprobs=self.top_logprobs if self.prompt_logprobs is None and self.echo else self.prompt_logprobs,
            bad_words=self.bad_words,
        )

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> Self:
        count = self.top_logprobs
        if count is not None and count < -1:
            raise field_error("top_logprobs", f"must be at least 0, or -1 for all, got {count}.", count)
        if count and not self.logprobs:
            problem = "need logprobs: set logprobs to true as well, or leave them out."
            raise field_error("top_logprobs", problem, count)
        return self

    @model_validator(mode="after")
    def _thinking_is_limited_or_not(self) -> Self:
        budget = self.thinking_token_budget
        if budget is not None and budget < -1:
            problem = f"must be at least 0, or -1 for no limit, got {budget}."
            raise field_error("thinking_token_budget", problem, budget)
        return self

    @model_validator(mode="after")
    def _tool_choice_fits_tools(self) -> Self:
        if "tool_choice" not in self.model_fields_set and self.tools:
            self.tool_choice = "auto"
        if self.tool_choice in (None, "none"):
            return self
        if self.tools is None:
            problem = "needs tools to choose from: give tools, or leave tool_choice out."
            raise field_error("tool_choice", problem, self.tool_choice)
        if self.tool_choice == "required" and not self.tools:
            self.tool_choice, self.tools = "none", None  # as OpenAI does: nothing to choose from, nothing required
        if isinstance(self.tool_choice, ChatCompletionNamedToolChoiceParam):
            name, known = self.tool_choice.function.name, [tool.function.name for tool in self.tools or ()]
            if name not in known:
                problem = f"must be the name of one of the tools ({', '.join(known)}), got {shown(name)}."
                raise field_error("tool_choice.function.name", problem, name)
        if self.tool_choice not in ("auto", "none") and self.structured_outputs is not None:
            insists = "required" if self.tool_choice == "required" else "named"
            problem = f"and a {insists} tool_choice both set the answer's form: keep one of them."
            raise field_error("structured_outputs", problem, self.structured_outputs)
        return self


class AnnotationURLCitation(OpenAIBaseModel):
    """A web page that a stretch of the answer is based on."""

    model_config = ConfigDict(from_attributes=True)

    end_index: int
    """Where the stretch ends, in characters."""
    start_index: int
    """Where it begins, in characters."""
    title: str
    """The page's title."""
    url: str
    """The page's address."""


class Annotation(OpenAIBaseModel):
    """A remark on a stretch of the answer; openai's own objects are taken as well."""

    model_config = ConfigDict(from_attributes=True)

    type: Literal["url_citation"]
    """The kind of remark; citations of web pages are the only one."""
    url_citation: AnnotationURLCitation
    """The citation."""


class ChatCompletionAudio(OpenAIBaseModel):
    """A spoken answer; openai's own objects are taken as well."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    """Names it, for later messages that refer to it."""
    data: str
    """The sound, in base64."""
    expires_at: int
    """Until when the id is known, in seconds since 1970."""
    transcript: str
    """What is said."""


class _Reasoning(OpenAIBaseModel):
    """Reasoning has two names among clients, so it is given and taken under both."""

    reasoning: str | None = None
    """What the model thought before it answered."""
    reasoning_content: str | None = None
    """The same, under its older name."""

    @model_validator(mode="after")
    def _has_both_names(self) -> Self:
        if self.reasoning_content is None:
            self.reasoning_content = self.reasoning  # set even if null: streams show the older name always
        elif self.reasoning is None:
            self.reasoning = self.reasoning_content
        return self


class ChatMessage(_Reasoning):
    """An answer."""

    role: str
    """Who speaks: assistant."""
    content: str | None = None
    """The text."""
    refusal: str | None = None
    """Why the model declines to answer, in its own words."""
    annotations: Annotation | None = None
    """A remark on the text."""
    audio: ChatCompletionAudio | None = None
    """The answer as sound."""
    function_call: FunctionCall | None = None
    """The old form of `tool_calls`."""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    """Tools that the model calls."""


class ChatCompletionResponseChoice(OpenAIBaseModel):
    """One answer, and why it ended."""

    index: int
    """The choice, from 0 to n - 1."""
    message: ChatMessage
    """The answer."""
    logprobs: ChatCompletionLogProbs | None = None
    """Log-probabilities of its tokens, when asked for."""
    finish_reason: str | None = "stop"
    """Why it ended: stop, length, tool_calls, or error with a call that could not be completed."""
    stop_reason: int | str | None = None
    """The stop string or the stop token's id that ended it; null at an end-of-sequence token."""
    token_ids: list[int] | None = None
    """The answer's tokens, when asked for."""
    error: ErrorInfo | None = None
    """What is wrong with the answer, when it has a tool call that could not be completed."""


class ChatCompletionResponse(OpenAIBaseModel):
    """All answers."""

    id: str = Field(default_factory=lambda: f"chatcmpl-{random_uuid()}")
    """The request's id."""
    object: Literal["chat.completion"] = "chat.completion"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """When the request came, in seconds since 1970."""
    model: str
    """The served model's name."""
    choices: list[ChatCompletionResponseChoice]
    """The answers."""
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    """OpenAI's class of service."""
    system_fingerprint: str | None = None
    """Names the server's set-up: answers are repeatable while it stays the same."""
    usage: UsageInfo
    """What the request cost."""
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    """Candidates at each position of the prompt by token id, when asked for; null at the first."""
    prompt_token_ids: list[int] | None = None
    """The prompt's tokens, when asked for."""
    kv_transfer_params: dict[str, Any] | None = None
    """What the KV connector answers."""


class DeltaMessage(_Reasoning):
    """What is new of an answer."""

    role: str | None = None
    """Who speaks, in the answer's first event."""
    content: str | None = None
    """New text."""
    tool_calls: list[DeltaToolCall] = Field(default_factory=list)
    """What is new of tool calls."""


class ChatCompletionResponseStreamChoice(OpenAIBaseModel):
    """What is new of one answer, and why it ended if it did."""

    index: int
    """The choice, from 0 to n - 1."""
    delta: DeltaMessage
    """What is new."""
    logprobs: ChatCompletionLogProbs | None = None
    """Log-probabilities of the new tokens, when asked for."""
    finish_reason: str | None = None
    """Why the answer ended, with its last piece: stop, length, tool_calls or error."""
    stop_reason: int | str | None = None
    """The stop string or the stop token's id that ended it; null at an end-of-sequence token."""
    token_ids: list[int] | None = None
    """The new tokens, when asked for."""
    error: ErrorInfo | None = None
    """What is wrong with the answer, with its last piece, when it has a tool call that could not be completed."""


class ChatCompletionStreamResponse(OpenAIBaseModel):
    """One event of a stream."""

    id: str = Field(default_factory=lambda: f"chatcmpl-{random_uuid()}")
    """The request's id, the same in every event."""
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """When the request came, in seconds since 1970."""
    model: str
    """The served model's name."""
    choices: list[ChatCompletionResponseStreamChoice]
    """What is new; empty in the event that tells the usage."""
    usage: UsageInfo | None = Field(default=None)
    """What the request cost so far, when asked for."""
    prompt_token_ids: list[int] | None = None
    """The prompt's tokens, in the first event, when asked for."""
