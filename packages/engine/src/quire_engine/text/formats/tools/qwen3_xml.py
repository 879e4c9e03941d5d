"""Calls of Qwen3-Coder and its heirs, with each argument between marks of its own; Seed-OSS writes them in its marks.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Kyoto
    </parameter>
    </function>
    </tool_call>

Models leave out the first line at times. After Qwen3-Coder's and Seed-OSS' chat templates; the seed system reads it in
`parser/qwen3.py` and `parser/seed_oss.py`.
"""

from __future__ import annotations

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

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
NEWLINE = "\n"

_ARGUMENTS = TextArguments(lambda name: f"{PARAMETER}{name}>{NEWLINE}", PARAMETER_END, space=NEWLINE, after=NEWLINE)


@dataclass(frozen=True, slots=True)
class XmlFunctions:
    """`<begin><function=…><parameter=…>…</parameter></function><end>`, as often as there are calls."""

    name: str
    aliases: tuple[str, ...]
    begin: str
    """What opens a call."""
    end: str
    """What closes a call."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What opens and closes a call, its function and their arguments."""
        return (self.begin, self.end, FUNCTION, FUNCTION_END, PARAMETER, PARAMETER_END)

    def wrote(self, template: str) -> bool:
        """Whether the template has the marks of calls and of functions."""
        return all(mark in template for mark in (self.begin, FUNCTION, PARAMETER))

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer; what text means as an argument depends on the tools' schemas."""
        return Reader(partial(self._read, tools))

    def _read(self, tools: Sequence[Tool], source: Source) -> Reading[None]:
        for index in count():
            mark = yield from content(source, self.begin, FUNCTION, after_call=index > 0)
            if mark is None:
                return
            if mark == self.begin:
                yield from source.skip_space()
                yield from source.expect(FUNCTION)
            name = yield from _name(source)
            yield CallBegan(index, name)
            yield from told(_arguments(source, properties_of(tools, name)), partial(CallArguments, index))
            yield from source.skip_space()
            if mark == self.begin:
                yield from source.expect_end(self.end)
            else:
                yield from source.takes(self.end)
            yield CallEnded(index)

    def opening(self) -> str:
        """What opens a call."""
        return self.begin

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """Calls as models write them, one below the other."""
        begin = notation.text(f"{self.begin}\n{FUNCTION}")
        end = notation.text(f"{FUNCTION_END}\n{self.end}")
        functions = [
            f"({notation.text(tool.name + '>' + NEWLINE)} {_ARGUMENTS.grammar(tool, notation)})" for tool in tools
        ]
        call = notation.rule(f"{begin} {choice(functions)} {end}")
        return repeated(call, notation.text("\n"), several=several)


def _name(source: Source) -> Waiting[str]:
    """What stands before the end of a tag: the name of a function or of an argument."""
    name, end = yield from gathered(until(source, ">", "<", "\n"))
    if end != ">" or not name.strip():
        raise Malformed(f"A tag with the name {name!r} is not closed." if name.strip() else "A tag has no name.")
    return name.strip()


def _arguments(source: Source, types: Mapping[str, frozenset[str]]) -> Pieces[None]:
    """The arguments up to the end of their function, as one JSON object."""

    def next_name() -> Waiting[str | None]:
        yield from source.skip_space()
        if (yield from source.takes(FUNCTION_END)):
            return None
        yield from source.expect(PARAMETER)
        return (yield from _name(source))

    def next_value(name: str) -> Pieces[str]:
        yield from source.takes(NEWLINE)
        kinds = types.get(name, frozenset({"string"}))
        return (yield from value(source, kinds, NEWLINE + PARAMETER_END, PARAMETER_END))

    return as_object(next_name, next_value)


QWEN3_XML = XmlFunctions(
    name="qwen3_xml",
    aliases=("qwen3_coder", "step3p5", "nemotron_v3"),
    begin="<tool_call>",
    end="</tool_call>",
)
SEED_OSS = XmlFunctions(name="seed_oss", aliases=(), begin="<seed:tool_call>", end="</seed:tool_call>")
