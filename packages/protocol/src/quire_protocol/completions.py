"""Text completions: POST /v1/completions, as asked, answered and streamed."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from quire_protocol.base import Many, OpenAIBaseModel, random_uuid
from quire_protocol.logprobs import CompletionLogProbs, Logprob
from quire_protocol.problems import ToldBy, field_error
from quire_protocol.sampling import SamplingParams
from quire_protocol.sampling_request import SamplingRequest
from quire_protocol.usage import UsageInfo


def _prompt_form(prompt: Any) -> str | None:
    """Which of its four forms a prompt has, by its first item."""
    if not isinstance(prompt, list):
        return "text" if isinstance(prompt, str) else None
    first = prompt[0] if prompt else None
    return "texts" if isinstance(first, str) else "several token ids" if isinstance(first, list) else "token ids"


Prompt = Annotated[
    Annotated[Many[int], Tag("token ids")]
    | Annotated[Many[Many[int]], Tag("several token ids")]
    | Annotated[str, Tag("text")]
    | Annotated[Many[str], Tag("texts")],
    ToldBy(_prompt_form, "a string, a list of strings, a list of token ids or a list of such lists"),
]


def _count(prompts: Any) -> int:
    """How many there are in a field that has one, or a list of them; token ids are one."""
    if not prompts:
        return 0
    return len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1


class CompletionRequest(SamplingRequest):
    """Continue one or several prompts."""

    prompt: Prompt | None = None
    """What to continue: a text or token ids, or a list of either."""
    echo: bool | None = False
    """Put the prompt before the answer."""
    logprobs: int | None = None
    """Likeliest tokens to report at each position of the answer, beside the chosen one; -1 reports all."""
    max_tokens: int | None = 16
    """Longest answer, in tokens."""
    n: int = 1
    """Answers to generate for each prompt."""
    suffix: str | None = None
    """Text that comes after the answer, for models that fill gaps."""

    prompt_embeds: bytes | Many[bytes] | None = None
    """Prompts that are embeddings, one or several: base64 of safetensors, a plain buffer or torch.save's bytes."""
    add_special_tokens: bool = True
    """Add the tokens that the tokenizer puts around a text, such as one for its beginning."""
    vllm_xargs: dict[str, str | int | float] | None = None
    """Arguments for extensions of the server."""

    @property
    def prompt_count(self) -> int:
        """How many prompts it has, those included that are embeddings."""
        return _count(self.prompt) + _count(self.prompt_embeds)

    def to_sampling_params(
        self,
        max_tokens: int,
        logits_processor_pattern: str | None,
        default_sampling_params: Mapping[str, Any] | None = None,
    ) -> SamplingParams:
        """How to draw at most `max_tokens` tokens. ValidationError, located at the field.

        `logits_processor_pattern` is what the server allows of `logits_processors`; `default_sampling_params` settle
        what the request leaves open. An echo without an answer still draws one token, as it needs a pass over the
        prompt; who asked for it shows none.
        """
        return self._sampling_params(
            logits_processor_pattern,
            default_sampling_params,
            self.vllm_xargs,
            max_tokens=1 if self.echo and self.max_tokens == 0 else max_tokens,
            logprobs=self.logprobs,
            prompt_logprobs=self.logprobs if self.prompt_logprobs is None and self.echo else self.prompt_logprobs,
        )

    @model_validator(mode="after")
    def _has_a_prompt(self) -> Self:
        if not self.prompt and not self.prompt_embeds:
            raise field_error("prompt", "must not be empty: give text, token ids or prompt_embeds.", self.prompt)
        return self

    @model_validator(mode="after")
    def _logprobs_are_few_or_all(self) -> Self:
        if self.logprobs is not None and self.logprobs < -1:
            raise field_error("logprobs", f"must be at least 0, or -1 for all, got {self.logprobs}.", self.logprobs)
        return self


class CompletionResponseChoice(OpenAIBaseModel):
    """One answer."""

    index: int
    """The choice: the prompt's number times n, plus the answer's."""
    text: str
    """The answer."""
    logprobs: CompletionLogProbs | None = None
    """Log-probabilities of its tokens, when asked for."""
    finish_reason: str | None = None
    """Why it ended: stop or length."""
    stop_reason: int | str | None = None
    """The stop string or the stop token's id that ended it; null at an end-of-sequence token."""
    token_ids: list[int] | None = None
    """The answer's tokens, when asked for."""
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    """Candidates at each position of the prompt by token id, when asked for; null at the first."""
    prompt_token_ids: list[int] | None = None
    """The prompt's tokens, when asked for."""


class CompletionResponse(OpenAIBaseModel):
    """All answers."""

    id: str = Field(default_factory=lambda: f"cmpl-{random_uuid()}")
    """The request's id."""
    object: Literal["text_completion"] = "text_completion"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """When the request came, in seconds since 1970."""
    model: str
    """The served model's name."""
    choices: list[CompletionResponseChoice]
    """The answers."""
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    """OpenAI's class of service."""
    system_fingerprint: str | None = None
    """Names the server's set-up: answers are repeatable while it stays the same."""
    usage: UsageInfo
    """What the request cost."""
    kv_transfer_params: dict[str, Any] | None = None
    """What the KV connector answers."""


class CompletionResponseStreamChoice(OpenAIBaseModel):
    """What is new of one answer."""

    index: int
    """The choice: the prompt's number times n, plus the answer's."""
    text: str
    """New text."""
    logprobs: CompletionLogProbs | None = None
    """Log-probabilities of the new tokens, when asked for."""
    finish_reason: str | None = None
    """Why the answer ended, with its last piece: stop or length."""
    stop_reason: int | str | None = None
    """The stop string or the stop token's id that ended it; null at an end-of-sequence token."""
    prompt_token_ids: list[int] | None = None
    """The prompt's tokens, once, when asked for."""
    token_ids: list[int] | None = None
    """The new tokens, when asked for."""


class CompletionStreamResponse(OpenAIBaseModel):
    """One event of a stream."""

    id: str = Field(default_factory=lambda: f"cmpl-{random_uuid()}")
    """The request's id, the same in every event."""
    object: str = "text_completion"
    """What this is."""
    created: int = Field(default_factory=lambda: int(time.time()))
    """When the request came, in seconds since 1970."""
    model: str
    """The served model's name."""
    choices: list[CompletionResponseStreamChoice]
    """What is new; empty in the event that tells the usage."""
    usage: UsageInfo | None = Field(default=None)
    """What the request cost so far, when asked for."""
