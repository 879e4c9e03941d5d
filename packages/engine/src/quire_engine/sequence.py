"""The nouns of a request below the text side: what comes down, what goes up, and the sequence in between. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
from pydantic import ConfigDict, Field

from quire_engine.constraint import Constraint, Guide, Thinking
from quire_engine.extensions import Processors
from quire_protocol import GenerateRequest, SamplingParams

if TYPE_CHECKING:
    from quire_engine.kv.pool import Block

FinishReason = Literal["stop", "length", "abort", "error", "timeout"]


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Log-probabilities at one position: the token that is there, and the likeliest ones."""

    token_id: int
    logprob: float
    rank: int
    """1 for the likeliest token of the vocabulary."""
    top_ids: tuple[int, ...] = ()
    """The likeliest tokens, best first; as many as were asked for."""
    top_logprobs: tuple[float, ...] = ()


class Rendered(msgspec.Struct, frozen=True):
    """What the text side adds to a request. No client can send it, and nothing below the line can make it."""

    embeds: bytes = b""
    """Where the prompt came as embeddings: [len(token_ids), hidden size] in float32, little-endian, row by row.

    The request's `token_ids` then stand for the rows, and say only how many there are.
    """
    constraint: Constraint | None = None
    """The form of its answers."""
    thinking: Thinking | None = None
    """How long its answers may reason."""
    shown_ids: frozenset[int] = frozenset()
    """Special tokens that stay in the text whatever `skip_special_tokens` says, as somebody above reads them."""


class RenderedRequest(GenerateRequest):
    """A request, and what the text side adds to it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    rendered: Annotated[Rendered, Field(exclude=True, repr=False)]

    @classmethod
    def of(cls, request: GenerateRequest, rendered: Rendered) -> Self:
        """The same request, with this added."""
        return cls.model_construct(**{**dict(request), "rendered": rendered})


def rendered(request: GenerateRequest) -> Rendered:
    """What the text side has added to a request: nothing, to one that did not pass it."""
    return request.rendered if isinstance(request, RenderedRequest) else Rendered()


class Terms(msgspec.Struct, frozen=True):
    """On what terms a request is served, beside what it asks for: who asks, and until when it is worth an answer."""

    tenant: str = ""
    """Who shares in turn with whom: requests of one tenant stand in one line. A name, never a secret."""
    weight: float = 1.0
    """How large this tenant's share is, beside the others'."""
    deadline: float | None = None
    """When it ends with "timeout", waiting or running: seconds of time.monotonic(), one clock in a machine."""


class Submission(msgspec.Struct, frozen=True):
    """One request as the engine takes it. `handle` is chosen by the caller and names it until it has finished."""

    handle: int
    request: GenerateRequest
    emitted_ids: dict[int, tuple[int, ...]] = {}
    """When a stream is resumed: the ids already emitted, by choice; only these choices are continued."""
    rendered: Rendered = Rendered()
    """Beside the request, as it is no part of what clients can send."""
    terms: Terms = Terms()
    seed: int | None = None
    """Of a request that brings none; None has the engine draw one."""
    scored: int = 0
    """When a stream is resumed: prompt positions, from the second one on, whose log-probabilities were emitted."""
    is_suspect: bool = False
    """When a stream is resumed: whether an engine may have ended by it. Then it is computed alone for a while."""

    @classmethod
    def of(cls, handle: int, request: GenerateRequest, terms: Terms = Terms()) -> Self:  # noqa: B008
        """The submission of a new request."""
        return cls(handle, request, rendered=rendered(request), terms=terms)


class Emission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one choice of one request gave in one step. There are too many for the garbage collector to follow."""

    handle: int
    index: int
    """The choice, from 0 to n - 1."""
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of `token_ids` when asked for, else empty."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """The next prompt positions' (from the second one on), as they are computed; choice 0 only."""
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    """The stop token that ended it, unless that is an end-of-sequence token."""
    cached_tokens: int = 0
    """Prompt tokens taken from the prefix cache; the same in every emission of a choice."""
    error: str | None = None
    """What went wrong, when `finish_reason` is "error"."""
    param: str | None = None
    """The field of the request that is to blame for it, if one is."""
    bypassed_tokens: int = 0
    """Prompt tokens that the prefix cache had, and that were computed all the same because the prompt was scored."""
    is_complete: bool = False
    """Whether it has stopped because its form lets nothing follow: no token ended it, so the last one is text too."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One continuation: tokens so far, how many are computed, and the blocks that hold them.

    Only the Scheduler changes it. A request with n choices is n sequences that share their prompt's blocks.
    """

    handle: int
    index: int
    tokens: list[int]
    """Prompt, then output. Its own from its first run on; until then, choices of one request may share the list."""
    prompt_length: int
    params: SamplingParams
    seed: int
    """The request's own, or one drawn for it: a draw is a pure function of (seed, index, position)."""
    priority: int = 0
    terms: Terms = Terms()  # noqa: RUF009 (it is frozen)
    """The request's: whose share it is counted to."""
    arrival: int = 0
    """Place in the order of arrival."""
    salt: bytes = b""
    """Mixed into the first block's digest: sequences share cached blocks only under equal salts."""
    embeds: bytes = b""
    """When its prompt came as embeddings: [prompt_length, hidden size] in float32; its prompt's tokens mean nothing."""
    computed: int = 0
    """Tokens whose keys and values are in the cache."""
    blocks: list[Block] = field(default_factory=list)
    shares_blocks: bool = True
    """Whether its full blocks are published for others, and theirs taken."""
    chain: list[bytes] = field(default_factory=list)
    """Digests of its first full blocks, as far as they were needed; what was computed once stays."""
    is_running: bool = False
    cached_tokens: int = 0
    """Prompt tokens that were taken from the prefix cache when it first ran."""
    bypassed_tokens: int = 0
    """Prompt tokens that were there, and were computed all the same because the prompt is scored."""
    preemptions: int = 0
    """Times it gave its blocks back."""
    given_up: int = 0
    """Tokens that were computed when it had to make way for somebody in line, until it runs again."""
    scored: int = 0
    """Prompt positions, from the second one on, whose log-probabilities were emitted."""
    guide: Guide | None = None
    """What holds it to its form, if it has one. While that is late, its last token is not computed."""
    processors: Processors | None = field(init=False)
    """Its own logits processors, if its parameters name some. Only the sampler calls them."""

    def __post_init__(self) -> None:
        named = self.params.logits_processors
        self.processors = Processors(named) if named else None

    @property
    def pending(self) -> int:
        """Tokens not yet computed."""
        return len(self.tokens) - self.computed

    @property
    def sits_out(self) -> bool:
        """Whether nothing is to be computed but a token that could not be drawn yet."""
        return self.pending == 1 and self.guide is not None and self.guide.is_late

    @property
    def first_token(self) -> int:
        """Position of the first of its tokens that is one: behind embeddings, the output's."""
        return self.prompt_length if self.embeds else 0

    @property
    def output_length(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def is_scoring(self) -> bool:
        """Whether log-probabilities of its prompt are still to be computed; only choice 0 gives them."""
        return self.params.prompt_logprobs is not None and self.index == 0 and self.scored < self.prompt_length - 1
