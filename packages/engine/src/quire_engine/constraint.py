"""What an answer may be, as it crosses from the text side to the engine: a grammar, a limit of its reasoning. No torch.

The text side writes and checks it; below the line a matcher, fed ids, holds every answer to it.
"""

from __future__ import annotations

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
