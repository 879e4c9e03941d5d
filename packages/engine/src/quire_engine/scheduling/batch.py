"""The unit of work: a span of one sequence, and the batch of spans that one step computes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from quire_engine.errors import RequestError
from quire_engine.extensions import ProcessorFailed
from quire_engine.sequence import Sequence, TokenLogprobs


@dataclass(frozen=True, slots=True)
class Span:
    """`length` tokens of `sequence` from `start` on. A prompt, a chunk and a decode step differ only in length."""

    sequence: Sequence
    start: int
    length: int
    ahead: bool = False
    """Whether its one token is still to be drawn, by the step before."""

    @property
    def stop(self) -> int:
        """One past the last token."""
        return self.start + self.length

    @property
    def samples(self) -> bool:
        """Whether the span reaches its sequence's end, so that a new token is drawn."""
        return self.ahead or self.stop == len(self.sequence.tokens)

    @property
    def but_last(self) -> Span:
        """The same without its last token."""
        return Span(self.sequence, self.start, self.length - 1, self.ahead)


class BlockCopy(NamedTuple):
    """A block to be copied, in every layer."""

    source: int
    """Number of the block that is read."""
    target: int
    """Number of the block that is overwritten."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The spans of one step, in the order of the packed rows."""

    spans: tuple[Span, ...]
    admitted: tuple[Sequence, ...] = ()
    """The sequences among them that began to run in this step."""
    copies: tuple[BlockCopy, ...] = ()
    """Done before anything is computed. No target is another one's source."""

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it; a batch on its way loses those that end or are aborted meanwhile."""
        return any(span.sequence.is_running for span in self.spans)

    @property
    def tokens(self) -> int:
        """Rows of the packed pass."""
        return sum(span.length for span in self.spans)


@dataclass(frozen=True, slots=True)
class SpanResult:
    """What the runner gives back for one span."""

    token: int | None = None
    """The drawn token, when the span samples; None if it is not known yet what may be drawn."""
    logprobs: TokenLogprobs | None = None
    """Of the drawn token, when asked for."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """Of the prompt tokens that the span's rows predict, when asked for: positions start + 1 … within the prompt."""
    error: str | None = None
    """Why no token could be drawn (logits that are not numbers, say); the scheduler ends this sequence alone."""
    param: str | None = None
    """The field of the request that is to blame for the error, if one is."""
    is_poisoned: bool = False
    """Whether the error is that the model gave no numbers, so that its blocks are not to be trusted either."""

    @classmethod
    def failed(cls, error: Exception) -> Self:
        """What is told of an error that one request raised: all of it where that was written for clients."""
        if isinstance(error, RequestError):
            return cls(error=str(error), param=error.param)
        if isinstance(error, ProcessorFailed):
            return cls(error=str(error))
        kind = type(error).__name__
        return cls(error=f"This request could not be computed ({kind}); the server's log has the cause.")
