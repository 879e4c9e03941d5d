"""Formats that mark each call on its own, and write it as a JSON object between the marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallEnded
from quire_engine.text.formats.scanner import Reader, Reading, Source, content
from quire_engine.text.formats.tools.json_call import JsonCall, call_grammar, choice, repeated


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """`<begin>{"name": …, "arguments": {…}}<end>`, as often as there are calls, with text before, between and after."""

    name: str
    aliases: tuple[str, ...]
    begin: str
    """What opens a call; white space may follow."""
    end: str
    """What closes a call."""
    key: str
    """What the arguments are called."""
    in_template: tuple[str, ...]
    """Texts that stand, all of them, in templates of models that write calls this way."""
    lead: str = ""
    """White space that models write before a call's object."""
    trail: str = ""
    """White space that they write after it."""
    between: str = ""
    """White space that they write between calls."""
    head: str = ""
    """Text that follows what opens a call, where other things than calls are opened so as well."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What opens and closes a call."""
        return (self.begin, *([self.head] if self.head else []), self.end)

    def wrote(self, template: str) -> bool:
        """Whether the template has all that those of this format have."""
        return all(text in template for text in self.in_template)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(self._read)

    def _read(self, source: Source) -> Reading[None]:
        for index in count():
            if not (yield from content(source, self.opening(), after_call=index > 0)):
                return
            yield from source.skip_space()
            yield from JsonCall(source, index).read()
            yield from source.skip_space()
            yield from source.expect_end(self.end)
            yield CallEnded(index)

    def opening(self) -> str:
        """What opens a call."""
        return self.begin + self.head

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls as models write them, each between marks."""
        one = choice([call_grammar(tool, notation, key=self.key) for tool in tools])
        begin = notation.text(self.opening() + self.lead)
        call = notation.rule(f"{begin} {one} {notation.text(self.trail + self.end)}")
        return repeated(call, self.between and notation.text(self.between), several=several)
