"""How tokens are drawn and when to stop: what was asked, checked and frozen. Knows no tensor and no tokenizer."""

from collections.abc import Mapping
from enum import Enum
from math import copysign
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, ModelWrapValidatorHandler, model_validator
from pydantic.dataclasses import dataclass

from quire_protocol.base import Described, Int64
from quire_protocol.logits_processors import NamedProcessor
from quire_protocol.problems import field_error, in_words

_CONFIG = ConfigDict(extra="forbid", defer_build=True)
_LARGEST_BIAS = 100.0


class RequestOutputKind(Enum):
    """What each delivery of an answer holds."""

    CUMULATIVE = 0
    """Everything generated so far."""
    DELTA = 1
    """What is new since the last delivery."""
    FINAL_ONLY = 2
    """Everything, once, at the end."""


def _several(value: object) -> object:
    """One string stands for a list of one; None for none."""
    if isinstance(value, str):
        return (value,)
    return () if value is None else value


def _random_when_negative(seed: object) -> object:
    """-1 is how some clients write "no seed"."""
    return None if seed == -1 else seed


def _bounded_bias(biases: object) -> object:
    """JSON has token ids as strings; biases beyond the largest one act like it."""
    if not isinstance(biases, dict):
        return biases
    for token in biases:
        try:
            int(token)
        except (TypeError, ValueError):
            raise ValueError(f'logit_bias must have token ids as keys, got "{token}".') from None
    return {
        token: copysign(_LARGEST_BIAS, bias) if isinstance(bias, int | float) and abs(bias) > _LARGEST_BIAS else bias
        for token, bias in biases.items()
    }


Penalty = Annotated[float, Field(ge=-2, le=2)]
Strings = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)]
LogprobCount = Annotated[int, Field(ge=-1)]

CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
"""The fields of StructuredOutputsParams of which a request sets one."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class StructuredOutputsParams(Described):
    """What form an answer must have. At most one of the six constraints; the rest refine it."""

    json: str | dict[str, Any] | None = None
    """A JSON Schema, as an object or as its text: the answer is JSON that satisfies it."""
    regex: str | None = None
    """A regular expression that the whole answer matches."""
    choice: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The answer is one of these strings."""
    grammar: str | None = None
    """A context-free grammar (EBNF or Lark) that the whole answer follows."""
    json_object: bool | None = None
    """The answer is some JSON object."""
    structural_tag: str | None = None
    """A structural tag as JSON text: free text in which marked parts follow a schema."""
    disable_any_whitespace: bool = False
    """Write JSON without optional whitespace."""
    disable_additional_properties: bool = False
    """Allow only the properties that the schema names."""
    whitespace_pattern: str | None = None
    """A regular expression for the whitespace between JSON tokens."""

    @property
    def constraints(self) -> dict[str, Any]:
        """The constraints that are set, by name: none or one."""
        named = {name: getattr(self, name) for name in CONSTRAINTS}
        return {name: value for name, value in named.items() if value is not None and value is not False}

    @model_validator(mode="after")
    def _has_one_constraint_at_most(self) -> Self:
        names = tuple(self.constraints)
        if len(names) > 1:
            raise ValueError(f"structured_outputs takes one constraint, got {' and '.join(names)}: keep one of them.")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class SamplingParams(Described):
    """How to draw the tokens of one request. Wrong values raise pydantic.ValidationError, located at the field."""

    n: Annotated[int, Field(ge=1)] = 1
    """Answers to generate."""
    presence_penalty: Penalty = 0.0
    """Taken off the logit of every token that the answer already has; negative invites repetition."""
    frequency_penalty: Penalty = 0.0
    """Taken off a token's logit once for each time the answer has it."""
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Tokens of prompt and answer: positive logits are divided by this, negative ones multiplied."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Logits are divided by this before the draw; 0 takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that together have this probability."""
    top_k: Annotated[int, Field(ge=-1)] = 0
    """Draw from this many likeliest tokens; 0 or -1 from all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Draw from tokens at least this probable, relative to the likeliest one."""
    seed: Annotated[Int64 | None, BeforeValidator(_random_when_negative)] = None
    """Makes the draws repeatable; without one (or with -1) they differ from request to request."""
    stop: Strings = ()
    """Strings that end an answer where they appear."""
    stop_token_ids: Annotated[tuple[int, ...], BeforeValidator(_several)] = ()
    """Tokens that end an answer."""
    ignore_eos: bool = False
    """Go on after an end-of-sequence token."""
    max_tokens: Annotated[int, Field(ge=1)] | None = 16
    """Longest answer, in tokens; None is as long as the context allows."""
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """No stop token and no stop string ends an answer shorter than this, in tokens."""
    logprobs: LogprobCount | None = None
    """Likeliest tokens to report at each position of the answer, beside the drawn one; -1 reports all."""
    prompt_logprobs: LogprobCount | None = None
    """Likeliest tokens to report at each position of the prompt, beside the actual one; -1 reports all."""
    detokenize: bool = True
    """Turn token ids into text."""
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    spaces_between_special_tokens: bool = True
    """Put spaces between special tokens in the text."""
    logits_processors: tuple[NamedProcessor, ...] | None = None
    """Registered processors that change the logits before the draw: their names, or how to build them."""
    include_stop_str_in_output: bool = False
    """Keep the stop string, or the stop token's text, at the end of the answer."""
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    """Keep only this many tokens at the end of the prompt; -1 keeps what the context has room for."""
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    """What each delivery holds: 0 everything so far, 1 what is new, 2 everything at the end."""
    structured_outputs: StructuredOutputsParams | None = None
    """What form the answer must have."""
    logit_bias: Annotated[dict[int, FiniteFloat] | None, BeforeValidator(_bounded_bias)] = None
    """Added to the logits of these token ids; cut to [-100, 100]."""
    allowed_token_ids: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Draw from these tokens only."""
    bad_words: Strings = ()
    """Words that an answer must not contain."""
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()
    """`bad_words` as token ids, filled in by the text side."""
    extra_args: dict[str, Any] | None = None
    """Arguments for extensions of the server, passed through as they are."""

    @classmethod
    def from_optional(cls, **given: Any) -> Self:
        """Build from values of which some are None: those get the default. `max_tokens=None` means no limit."""
        return cls(**{name: value for name, value in given.items() if value is not None or name == "max_tokens"})

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, without a draw."""
        return self.temperature == 0

    @model_validator(mode="wrap")
    @classmethod
    def _state_errors_in_words(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return in_words(data, handler)

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            limit = f"at most max_tokens, which is {self.max_tokens}"
            raise field_error("min_tokens", f"must be {limit}, got {self.min_tokens}.", self.min_tokens)
        if self.truncate_prompt_tokens == 0:
            problem = "must be -1 or at least 1, got 0: nothing of the prompt would be left."
            raise field_error("truncate_prompt_tokens", problem, 0)
        if self.stop and not self.detokenize:
            problem = "needs text to look for: set detokenize to true, or use stop_token_ids."
            raise field_error("stop", problem, self.stop)
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class BeamSearchParams(Described):
    """How to search for the likeliest answers with several beams."""

    beam_width: Annotated[int, Field(ge=1)]
    """Beams kept at each step, and answers returned."""
    max_tokens: Annotated[int, Field(ge=1)]
    """Longest answer, in tokens."""
    ignore_eos: bool = False
    """Go on after an end-of-sequence token."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """As in SamplingParams; a search goes by the model's own log-probabilities, whatever it is."""
    length_penalty: FiniteFloat = 1.0
    """A beam's score is its log-probability divided by its length to this power."""
    include_stop_str_in_output: bool = False
    """Keep the stop token's text at the end of an answer."""


def settled(request: object, neutral: Mapping[str, float], defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """For each name in `neutral`: what the request asks for, else the server's default, else the neutral value."""
    fallback = {**neutral, **(defaults or {})}
    asked = {name: getattr(request, name) for name in neutral}
    return {name: fallback[name] if value is None else value for name, value in asked.items()}
