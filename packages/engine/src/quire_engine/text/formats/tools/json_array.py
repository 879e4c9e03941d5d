"""Formats that mark all calls of an answer once, and write them as a JSON array behind the mark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallEnded
from quire_engine.text.formats.scanner import Reader, Reading, Source, content
from quire_engine.text.formats.tools.json_call import JsonCall, call_grammar, choice, repeated


@dataclass(frozen=True, slots=True)
class JsonArray:
    """`<begin>[{"name": …, "arguments": {…}}, …]<end>`, with text before and after."""

    name: str
    aliases: tuple[str, ...]
    begins: tuple[str, ...]
    """What opens calls, the mark that this format asks for first; white space may follow. May include the bracket."""
    end: str
    """What closes calls, where a model writes it; empty for formats without."""
    in_template: tuple[str, ...]
    """Texts of which one stands in templates of models that write calls this way."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What opens and closes calls."""
        return (*self.begins, *([self.end] if self.end else []))

    def wrote(self, template: str) -> bool:
        """Whether the template has what those of this format have."""
        return any(text in template for text in self.in_template)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(self._read)

    def _read(self, source: Source) -> Reading[None]:
        index = 0
        while begin := (yield from content(source, *self.begins, after_call=index > 0)):
            index = yield from read_array(source, index, is_open=begin.endswith("["))
            if self.end:
                yield from source.skip_space()
                yield from source.takes(self.end)

    def opening(self) -> str:
        """What opens calls."""
        return self.begins[0]

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls in one array."""
        begin = self.begins[0]
        has_bracket = begin.endswith("[")
        bracket = "" if has_bracket else f"{notation.text(' ')}? {notation.text('[')}"
        end = notation.text("]" if has_bracket else f"]{self.end}")
        call = notation.rule(choice([call_grammar(tool, notation) for tool in tools]))
        array = repeated(call, notation.text(", "), several=several)
        return f"({notation.text(begin)} {bracket} {array} {end})"


def read_array(
    source: Source, index: int, new_id: Callable[[], str | None] = lambda: None, *, is_open: bool
) -> Reading[int]:
    """The calls of the array that stands here, or one alone; returns the index of the next call of the answer.

    `new_id` makes their ids, in formats that have some.
    """
    yield from source.skip_space()
    if not is_open and (yield from source.peek()) == "{":
        yield from JsonCall(source, index, id=new_id()).read()
        yield CallEnded(index)
        return index + 1
    if not is_open:
        yield from source.expect("[")
        yield from source.skip_space()
    if (yield from source.takes("]")):
        return index
    while True:
        yield from JsonCall(source, index, id=new_id()).read()
        yield CallEnded(index)
        index += 1
        yield from source.skip_space()
        if (yield from source.takes("]")):
            return index
        yield from source.expect(",")
        yield from source.skip_space()
