"""Reasoning between two marks: the parser and the grammar of every format that is no more than that.

It knows no model; a format is one `MarkedReasoning` with its own marks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from quire_engine.text.formats.base import Notation
from quire_engine.text.formats.events import Reasoning
from quire_engine.text.formats.scanner import (
    Pieces,
    Reader,
    Reading,
    Source,
    Waiting,
    content_to_the_end,
    told,
    until,
    without_end,
)

T = TypeVar("T")
_NEWLINES = re.compile(r"\n*")
_FEW_NEWLINES = "\n{1,2}"
"""What models write beside marks: an answer that a grammar holds is not to be newlines for ever."""


@dataclass(frozen=True, slots=True)
class MarkedReasoning:
    """A `ReasoningFormat`: an answer may begin with a mark, reasoning and a mark. What follows is the answer itself.

    Newlines around reasoning, and before an answer without it, belong to the marks, as they do in the chat templates
    that put past answers together again. Once the answer itself has begun, marks in it are text: whoever asks about a
    mark reads of it.
    """

    name: str
    begin: str
    end: str
    aliases: tuple[str, ...] = ()
    label: str = ""
    """The end of `begin` that models may leave out."""
    other_begins: tuple[str, ...] = ()
    """Other spellings of what begins reasoning, understood but not asked for."""
    other_ends: tuple[str, ...] = ()
    """Other spellings of what ends it."""
    heading: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """All spellings, without the label."""
        return (*self._begins, *self._ends)

    @property
    def _begins(self) -> tuple[str, ...]:
        return (self.begin.removesuffix(self.label), *self.other_begins)

    @property
    def _ends(self) -> tuple[str, ...]:
        return (self.end, *self.other_ends)

    def wrote(self, template: str) -> bool:
        """Whether the template has one of the marks, be it only to take past reasoning out."""
        return any(mark in template for mark in self.marks)

    def is_open(self, prompt: str, continued: str = "") -> bool:
        """Whether the prompt ends with an opened mark, or with reasoning in the message that is to be continued.

        A mark in what somebody else wrote opens nothing.
        """
        mark = max(self._begins, key=prompt.rfind)
        _, found, after = prompt.rpartition(mark)
        if not found or any(end in after for end in self._ends):
            return False
        written = continued.rstrip()  # templates may trim it
        if written.endswith((mark + after).rstrip()):
            return True
        return after.rstrip().removesuffix(written).strip() in ("", self.label.strip())

    def parser(self, *, is_open: bool, reads_calls: bool = True, is_verbatim: bool = False) -> Reader:
        """A parser for one answer. It knows no calls: they are content, whoever reads them."""
        return Reader(lambda source: self._read(source, is_open=is_open, is_verbatim=is_verbatim))

    def span(self, notation: Notation, *, is_open: bool, is_verbatim: bool = False) -> str:
        """Reasoning between newlines; newlines alone too, where the prompt has not opened it."""
        newlines = '""' if is_verbatim else f"({notation.regex(_FEW_NEWLINES)})?"
        closing = f"{notation.until(*self._ends)} {newlines}"
        return closing if is_open else f"{newlines} ({notation.text(self.begin)} {closing})?"

    def _read(self, source: Source, *, is_open: bool, is_verbatim: bool) -> Reading[None]:
        """An answer. What the prompt has begun may be begun once more; what nobody has begun may be ended."""
        if is_open or not is_verbatim:
            yield from source.run(_NEWLINES)
        if (yield from _any_of(source, self._begins)) or is_open:
            yield from source.takes(self.label)
            yield from told(_trimmed(until(source, *self._ends)), Reasoning)
        elif not is_verbatim:
            yield from _any_of(source, self._ends)
        if not is_verbatim:
            yield from source.run(_NEWLINES)
        yield from content_to_the_end(source)


def _any_of(source: Source, literals: tuple[str, ...]) -> Waiting[bool]:
    """Take one of these texts if it stands here; whether one does."""
    for literal in literals:
        if (yield from source.takes(literal)):
            return True
    return False


def _trimmed(pieces: Pieces[T]) -> Pieces[T]:
    """The same text without newlines at its two ends; those in the middle come with what follows them."""
    begun = False

    def after_newlines(piece: str) -> str:
        nonlocal begun
        text = piece if begun else piece.lstrip("\n")
        begun = begun or bool(text)
        return text

    result, _ = yield from without_end(told(pieces, after_newlines), "\n")
    return result
