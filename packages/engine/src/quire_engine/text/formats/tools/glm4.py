"""Calls of GLM 4.5 and later, with the name and the text of each argument between marks of its own.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Kyoto</arg_value>
    </tool_call>

GLM 4.7 leaves out the newlines. After the models' chat templates; the seed system reads it in `parser/glm47_moe.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded
from quire_engine.text.formats.scanner import (
    Malformed,
    Pieces,
    Reader,
    Reading,
    Source,
    Waiting,
    content,
    gathered,
    told,
    until,
)
from quire_engine.text.formats.tools.json_call import choice, repeated
from quire_engine.text.formats.tools.named_arguments import as_object
from quire_engine.text.formats.tools.text_values import TextArguments, properties_of, value

CALL, CALL_END = "<tool_call>", "</tool_call>"
KEY, KEY_END, VALUE, VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"

_NAME = re.compile(r"[^<\n]+")


@dataclass(frozen=True, slots=True)
class GlmCalls:
    """The `ToolFormat` of a generation of GLM models."""

    name: str
    aliases: tuple[str, ...]
    newline: str
    """What stands behind the name of the function, the names and the values of its arguments, and between calls."""
    marks: tuple[str, ...] = (CALL, CALL_END, KEY, KEY_END, VALUE, VALUE_END)

    def wrote(self, template: str) -> bool:
        """Whether the template writes arguments this way, with newlines or without."""
        return KEY in template and (f"{KEY_END}{VALUE}" in template) == (not self.newline)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer; what text means as an argument depends on the tools' schemas."""
        return Reader(partial(_read, tools))

    def opening(self) -> str:
        """What opens a call."""
        return CALL

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls as models write them."""
        arguments = TextArguments(self._before_value, VALUE_END, after=self.newline)
        heads = [notation.text(f"{CALL}{tool.name}{self.newline}") for tool in tools]
        bodies = [arguments.grammar(tool, notation) for tool in tools]
        one = choice([f"({head} {body})" for head, body in zip(heads, bodies, strict=True)])
        call = notation.rule(f"{one} {notation.text(CALL_END)}")
        return repeated(call, notation.text(self.newline) if self.newline else "", several=several)

    def _before_value(self, name: str) -> str:
        return f"{KEY}{name}{KEY_END}{self.newline}{VALUE}"


def _read(tools: Sequence[Tool], source: Source) -> Reading[None]:
    for index in count():
        if not (yield from content(source, CALL, after_call=index > 0)):
            return
        yield from source.skip_space()
        name = (yield from source.run(_NAME)).strip()
        if not name or not (yield from source.peek()):
            raise Malformed("A call has no name, or one that is not complete.")
        yield CallBegan(index, name)
        yield from told(_arguments(source, properties_of(tools, name)), partial(CallArguments, index))
        yield CallEnded(index)


def _arguments(source: Source, types: Mapping[str, frozenset[str]]) -> Pieces[None]:
    """The arguments up to what closes the call, which has to be there: without it nothing says that they are all."""

    def next_name() -> Waiting[str | None]:
        yield from source.skip_space()
        if (yield from source.takes(CALL_END)):
            return None
        yield from source.expect(KEY)
        name, end = yield from gathered(until(source, KEY_END))
        if end is None:
            raise source.malformed(repr(KEY_END))
        yield from source.skip_space()
        yield from source.expect(VALUE)
        return name.strip()

    return as_object(next_name, lambda name: value(source, types.get(name, frozenset({"string"})), VALUE_END))


GLM4 = GlmCalls(name="glm4", aliases=("glm45", "glm47"), newline="\n")
"""GLM 4.5 and 4.6."""
GLM47 = GlmCalls(name="glm47", aliases=("glm4", "glm45"), newline="")
"""GLM 4.7 and later."""
