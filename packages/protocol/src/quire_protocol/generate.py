"""Token ids in, token ids out: the language that the engine speaks, and the route that speaks it over HTTP."""

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from quire_protocol.base import CacheSalt, Many, OpenAIBaseModel, RequestModel, random_uuid
from quire_protocol.logprobs import ChatCompletionLogProbs, Logprob
from quire_protocol.sampling import BeamSearchParams, SamplingParams
from quire_protocol.usage import StreamOptions, check_stream_options


class GenerateRequest(RequestModel):
    """One prompt as token ids, and how to continue it. Frozen: everything that handles a request shares it."""

    model_config = ConfigDict(frozen=True)

    request_id: str = Field(default_factory=random_uuid)
    """Names the request in logs and answers; random when absent."""
    token_ids: Many[int]
    """The prompt."""
    features: str | None = None
    """Processed images, audio or video that belong to the prompt."""
    sampling_params: SamplingParams
    """How to draw the tokens, and when to stop."""
    beam_search: BeamSearchParams | None = None
    """Search for the likeliest answers instead of drawing; what `sampling_params` says too, it says the same."""
    model: str | None = None
    """The served model's name; the server's own when absent."""
    stream: bool | None = False
    """Answer with server-sent events while tokens are generated."""
    stream_options: StreamOptions | None = None
    """What the stream tells beside the answer; only with `stream`."""
    cache_salt: CacheSalt | None = None
    """Only requests with the same salt share cached prompts; a secret one keeps others from guessing prompts."""
    priority: int = 0
    """Lower is served earlier; anything but 0 needs a server that schedules by priority."""
    kv_transfer_params: dict[str, Any] | None = None
    """For the KV connector, when prompt and answer are computed on different servers."""

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        check_stream_options(self.stream_options, self.stream)
        return self


class GenerateResponseChoice(OpenAIBaseModel):
    """One answer, as token ids."""

    index: int
    """The choice, from 0 to n - 1."""
    logprobs: ChatCompletionLogProbs | None = None
    """Log-probabilities of the tokens, when asked for."""
    finish_reason: str | None = "stop"
    """Why the answer ended: stop or length."""
    token_ids: list[int] | None = None
    """The answer."""


class GenerateResponse(OpenAIBaseModel):
    """The answers to a GenerateRequest."""

    request_id: str = Field(default_factory=random_uuid)
    """The request's id."""
    choices: list[GenerateResponseChoice]
    """The answers."""
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    """Candidates at each position of the prompt by token id, when asked for; null at the first."""
    kv_transfer_params: dict[str, Any] | None = None
    """What the KV connector answers."""
