"""Formats in which calls need no mark: an answer that begins as a call is one.

Any other JSON is an answer like any text, so an object is a call only if it names one of the answer's tools, with
nothing before the name that calls do not have there. JSON behind a mark, in formats that have one, is a call in any
case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallEnded
from quire_engine.text.formats.scanner import Malformed, Reader, Reading, Source, Waiting, content
from quire_engine.text.formats.tools.json_call import JsonCall, call_grammar, choice, repeated


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """`{"name": …, "parameters": {…}}`, alone, one after the other or in an array, as the beginning of the answer."""

    name: str
    aliases: tuple[str, ...]
    key: str
    """What the arguments are called."""
    in_template: str | None
    """Text that stands in templates of models that write calls this way; None where no template tells."""
    mark: str | None = None
    """What may stand before calls, there and elsewhere."""
    opens: str = ""
    """What the grammar has before calls."""
    between: str = "; "
    """What models write between calls."""
    closes: str = ""
    """What the grammar has after calls."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What may stand before calls."""
        return (self.mark,) if self.mark else ()

    def wrote(self, template: str) -> bool:
        """Whether the template asks for calls of this form."""
        return self.in_template is not None and self.in_template in template

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(partial(self._read, frozenset(tool.name for tool in tools)))

    def _read(self, names: Collection[str], source: Source) -> Reading[None]:
        index = yield from _calls(source, 0, names)
        while (yield from content(source, *self.marks, after_call=index > 0)):
            if (yield from _is_json(source)):
                index = yield from _calls(source, index, names, is_marked=True)

    def opening(self) -> None:
        """Calls have no opening."""

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls as models write them, from the first character on."""
        call = notation.rule(choice([call_grammar(tool, notation, key=self.key) for tool in tools]))
        calls = repeated(call, notation.text(self.between), several=several)
        parts = [self.opens and notation.text(self.opens), calls, self.closes and notation.text(self.closes)]
        return f"({' '.join(filter(None, parts))})"


def _is_json(source: Source) -> Waiting[bool]:
    """Whether what stands behind a mark is an object or an array, or nothing yet: models mark code with it too."""
    source.hold()
    yield from source.skip_space()
    first = yield from source.peek()
    source.back()
    return first in ("", "{", "[")


def _calls(source: Source, index: int, names: Collection[str], *, is_marked: bool = False) -> Reading[int]:
    """The calls that stand here, one after the other; returns the index of the next call of the answer.

    What is no call is left where it is; behind a mark, the first has to be one.
    """
    source.hold()
    yield from source.skip_space()
    is_array = yield from source.takes("[")
    first = index
    while (yield from _is_call(source, index, None if is_marked and index == first else names)):
        yield CallEnded(index)
        index += 1
        source.hold()
        yield from source.skip_space()
        for parting in ",;":
            yield from source.takes(parting)
    if is_array and index > first:
        source.hold()
        yield from source.skip_space()
        if (yield from source.takes("]")):
            source.let_go()
        else:
            source.back()
    return index


def _is_call(source: Source, index: int, names: Collection[str] | None) -> Reading[bool]:
    """Reads a call of one of these functions, if one stands here; if none does, puts back what is held."""
    call = JsonCall(source, index, known=names)
    try:
        yield from source.skip_space()
        for event in call.read():
            if call.has_begun:
                source.let_go()
            yield event
    except Malformed:
        if call.has_begun or names is None:
            raise
        source.back()
        return False
    return True
