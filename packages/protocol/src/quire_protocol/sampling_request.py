"""What chat and text completions share: how to sample, and what to report. It knows neither messages nor prompts."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from quire_protocol.base import CacheSalt, Int64, Many, RequestModel, random_uuid
from quire_protocol.formats import AnyResponseFormat, constrain
from quire_protocol.logits_processors import LogitsProcessors, allowed_logits_processors
from quire_protocol.problems import field_error
from quire_protocol.sampling import (
    CONSTRAINTS,
    BeamSearchParams,
    RequestOutputKind,
    SamplingParams,
    StructuredOutputsParams,
    settled,
)
from quire_protocol.usage import StreamOptions, check_stream_options


class SamplingRequest(RequestModel):
    """A request for sampled text. What it leaves open, the server's defaults settle."""

    model: str | None = None
    """Name of a served model or adapter; the server's own when absent."""
    frequency_penalty: float | None = 0.0
    """Lowers a token's logit by this for each time the answer has it; from -2 to 2."""
    logit_bias: dict[str, float] | None = None
    """Added to the logits of these token ids; from -100 to 100."""
    n: int | None = 1
    """Answers to generate for each prompt."""
    presence_penalty: float | None = 0.0
    """Lowers the logit of every token that the answer has by this; from -2 to 2."""
    response_format: AnyResponseFormat | None = None
    """What form the answer must have: any text, JSON, JSON that follows a schema, or text with marked parts."""
    seed: Int64 | None = None
    """Makes the answer repeatable; -1 is like none."""
    stop: str | Many[str] | None = Field(default=[])
    """Strings that end the answer where they appear."""
    stream: bool | None = False
    """Answer with server-sent events while tokens are generated."""
    stream_options: StreamOptions | None = None
    """What the stream tells beside the answer; only with `stream`."""
    temperature: float | None = None
    """How freely to draw, from 0 (the likeliest token) to 2."""
    top_p: float | None = None
    """Draw from the likeliest tokens that together have this probability."""
    user: str | None = None
    """The caller's own name for its user: comes back in the header `X-Quire-User`, for access logs."""

    use_beam_search: bool = False
    """Search for the `n` likeliest answers instead of drawing."""
    top_k: int | None = None
    """Draw from this many likeliest tokens; 0 or -1 from all."""
    min_p: float | None = None
    """Draw from tokens at least this probable, relative to the likeliest one."""
    repetition_penalty: float | None = None
    """Makes tokens of prompt and answer less likely when above 1, likelier when below."""
    length_penalty: float = 1.0
    """In beam search, a score is divided by its length to this power."""
    stop_token_ids: Many[int] | None = Field(default=[])
    """Tokens that end the answer."""
    include_stop_str_in_output: bool = False
    """Keep the stop string at the end of the answer."""
    ignore_eos: bool = False
    """Go on after an end-of-sequence token."""
    min_tokens: int = 0
    """No stop ends an answer shorter than this, in tokens."""
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    spaces_between_special_tokens: bool = True
    """Put spaces between special tokens in the text."""
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    """Keep only this many tokens at the end of the prompt; -1 keeps what the context has room for."""
    prompt_logprobs: int | None = None
    """Likeliest tokens to report at each position of the prompt; -1 reports all. Not while streaming."""
    allowed_token_ids: Many[int] | None = None
    """Draw from these tokens only."""

    structured_outputs: StructuredOutputsParams | None = None
    """What form the answer must have, in more ways than `response_format` has."""
    priority: int = 0
    """Lower is served earlier; anything but 0 needs a server that schedules by priority."""
    request_id: str = Field(default_factory=random_uuid)
    """Names the request in logs and answers; random when absent."""
    logits_processors: LogitsProcessors | None = None
    """Processors of the logits that the server has installed and allows: their names, or how to build them."""
    return_tokens_as_token_ids: bool | None = None
    """In log-probabilities, write tokens as `token_id:<id>`, as not every token is text."""
    return_token_ids: bool | None = None
    """Return token ids beside the text: the prompt's with the first event of a stream, the answer's with each."""
    cache_salt: CacheSalt | None = None
    """Only requests with the same salt share cached prompts; a secret one keeps others from guessing prompts."""
    kv_transfer_params: dict[str, Any] | None = None
    """For the KV connector, when prompt and answer are computed on different servers."""

    _DEFAULT_SAMPLING_PARAMS: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"repetition_penalty": 1.0, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    )

    def to_beam_search_params(
        self, max_tokens: int, default_sampling_params: Mapping[str, Any] | None = None
    ) -> BeamSearchParams:
        """How to search, with as many beams as answers are asked for. ValidationError, located at the field."""
        return BeamSearchParams(
            beam_width=1 if self.n is None else self.n,
            max_tokens=max_tokens,
            ignore_eos=self.ignore_eos,
            temperature=self._settled(default_sampling_params)["temperature"],
            length_penalty=self.length_penalty,
            include_stop_str_in_output=self.include_stop_str_in_output,
        )

    def _sampling_params(
        self, pattern: str | None, defaults: Mapping[str, Any] | None, xargs: Mapping[str, Any] | None, **own: Any
    ) -> SamplingParams:
        """How to draw: as asked, else by the server's defaults, else neutrally. `own` is for a subclass to say."""
        transfer = {"kv_transfer_params": self.kv_transfer_params} if self.kv_transfer_params else {}
        return SamplingParams.from_optional(
            **self._settled(defaults),
            **own,
            n=self.n,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=self.stop,
            stop_token_ids=self.stop_token_ids,
            ignore_eos=self.ignore_eos,
            min_tokens=self.min_tokens,
            skip_special_tokens=self.skip_special_tokens,
            spaces_between_special_tokens=self.spaces_between_special_tokens,
            logits_processors=allowed_logits_processors(self.logits_processors, pattern),
            include_stop_str_in_output=self.include_stop_str_in_output,
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            output_kind=RequestOutputKind.DELTA if self.stream else RequestOutputKind.FINAL_ONLY,
            structured_outputs=constrain(self.structured_outputs, self.response_format),
            logit_bias=self.logit_bias,
            allowed_token_ids=self.allowed_token_ids,
            extra_args={**(xargs or {}), **transfer} or None,
        )

    def _settled(self, defaults: Mapping[str, Any] | None) -> dict[str, Any]:
        """The values that a server's defaults may settle."""
        return settled(self, self._DEFAULT_SAMPLING_PARAMS, defaults)

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        check_stream_options(self.stream_options, self.stream)
        return self

    @model_validator(mode="after")
    def _prompt_logprobs_are_few_and_whole(self) -> Self:
        count = self.prompt_logprobs
        if count is not None and count < -1:
            problem = f"must be at least 0, or -1 for all, got {count}."
            raise field_error("prompt_logprobs", problem, count)
        if count and self.stream:
            problem = "come with whole answers only: set stream to false, or leave them out."
            raise field_error("prompt_logprobs", problem, count)
        return self

    @model_validator(mode="after")
    def _has_one_constraint_at_most(self) -> Self:
        if self.structured_outputs is None:
            return self
        constraints = self.structured_outputs.constraints
        form = self.response_format and self.response_format.type
        if not constraints and form in (None, "text"):
            problem = f"has no constraint: give one of {', '.join(CONSTRAINTS)}."
            raise field_error("structured_outputs", problem, {})
        if constraints and form not in (None, "text"):
            kind = next(iter(constraints))
            problem = f"asks for {kind} and response_format for {form}: keep one of them."
            raise field_error("structured_outputs", problem, constraints)
        return self
