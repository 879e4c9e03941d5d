"""What an answer may be, as it crosses from the text side to the engine: a grammar, a limit of its reasoning. No torch.

The text side writes and checks it; below the line a matcher, fed ids, holds every answer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class Constraint(msgspec.Struct, frozen=True):
    """The form of an answer."""

    grammar: str
    """Of the whole answer from its first token on, in the notation that `quire_engine.text.grammar` writes."""
    param: str
    """The request's field that asked for it, for errors."""
    closes: bool = True
    """Whether an answer that comes near its longest length is led to an end that the grammar allows."""


class Thinking(msgspec.Struct, frozen=True):
    """How long an answer may reason before its end is written for it."""

    limit: int
    """Tokens between the marks."""
    begin: tuple[int, ...]
    """The tokens that begin it."""
    end: tuple[int, ...]
    """The tokens that end it."""
    is_open: bool = False
    """Whether the prompt has begun it already."""


class Guide(Protocol):
    """What holds one answer to its form while it grows, fed ids. `quire_engine.guidance` has it."""

    def begin(self) -> None:
        """Find out what may come first, now that the answer's turn has come; nothing if that was begun before."""
        ...

    @property
    def is_late(self) -> bool:
        """Whether it is not known yet what may come next, and that was waited for in vain."""
        ...

    def wait(self, seconds: float) -> bool:
        """Whether it is known what may come next, after waiting for it that long at most."""
        ...

    @property
    def mask(self) -> Any:
        """What may come next, once that is known: numpy's uint32, one bit for each token; None if anything may."""
        ...

    @property
    def failure(self) -> Exception | None:
        """Why nothing more can come."""
        ...

    @property
    def param(self) -> str | None:
        """The request's field that asked for the form."""
        ...

    def take(self, token: int, room: int) -> Sequence[int]:
        """The tokens by which the answer goes on, now that this one was drawn; `room` is for how many there are left.

        None at all if that is not known yet, or if another one must come: then one is to be drawn again. Nor where the
        answer is over before it. It raises nothing: what goes wrong is its `failure`.
        """
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow the tokens that were taken."""
        ...

    @property
    def is_cut(self) -> bool:
        """Whether that is so only because there is no room for what the answer would have gone on with."""
        ...
