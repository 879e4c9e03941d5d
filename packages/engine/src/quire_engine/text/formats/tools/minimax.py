"""Calls in a block of invocations, with the text of each argument between marks of its own: MiniMax M2.

    <minimax:tool_call>
    <invoke name="get_weather">
    <parameter name="city">Kyoto</parameter>
    </invoke>
    </minimax:tool_call>

After the models' chat template; the seed system reads it in `parser/minimax_m2.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
from quire_engine.text.formats.tools.json_call import choice
from quire_engine.text.formats.tools.named_arguments import as_object
from quire_engine.text.formats.tools.text_values import TextArguments, properties_of, value

BLOCK, BLOCK_END = "<minimax:tool_call>", "</minimax:tool_call>"
INVOKE, INVOKE_END = "<invoke name=", "</invoke>"
PARAMETER, PARAMETER_END = "<parameter name=", "</parameter>"
NEWLINE = "\n"

_ARGUMENTS = TextArguments(lambda name: f'{PARAMETER}"{name}">', PARAMETER_END, after=NEWLINE)


@dataclass(frozen=True, slots=True)
class MinimaxCalls:
    """The `ToolFormat` of MiniMax M2."""

    name: str = "minimax"
    aliases: tuple[str, ...] = ("minimax_m2",)
    marks: tuple[str, ...] = (BLOCK, BLOCK_END, INVOKE, INVOKE_END, PARAMETER, PARAMETER_END)

    def wrote(self, template: str) -> bool:
        """Whether the template writes blocks of invocations."""
        return BLOCK in template and INVOKE in template

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer; what text means as an argument depends on the tools' schemas."""
        return Reader(partial(_read, tools))

    def opening(self) -> str:
        """What opens a block."""
        return BLOCK

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """A block of invocations."""
        heads = [notation.text(f'{INVOKE}"{tool.name}">' + NEWLINE) for tool in tools]
        bodies = [_ARGUMENTS.grammar(tool, notation) for tool in tools]
        one = choice([f"({head} {body})" for head, body in zip(heads, bodies, strict=True)])
        invocation = notation.rule(f"{one} {notation.text(INVOKE_END + NEWLINE)}")
        return f"{notation.text(BLOCK + NEWLINE)} {invocation}{'+' * several} {notation.text(BLOCK_END)}"


def _read(tools: Sequence[Tool], source: Source) -> Reading[None]:
    index = 0
    while (yield from content(source, BLOCK, after_call=index > 0)):
        yield from source.skip_space()
        first = index
        while (yield from source.takes(INVOKE)):
            name = yield from _name(source)
            yield CallBegan(index, name)
            yield from told(_arguments(source, properties_of(tools, name)), partial(CallArguments, index))
            yield CallEnded(index)
            yield from source.skip_space()
            index += 1
        yield from source.expect(BLOCK_END) if index == first else source.expect_end(BLOCK_END)


def _name(source: Source) -> Waiting[str]:
    """What a tag names, up to its end. Quotes of either kind stand around it, or none."""
    name, end = yield from gathered(until(source, ">"))
    if end is None or not name.strip(" \"'"):
        raise Malformed("A tag has no name, or one that is not complete.")
    return name.strip(" \"'")


def _arguments(source: Source, types: Mapping[str, frozenset[str]]) -> Pieces[None]:
    """The arguments up to what closes the invocation, which has to be there: nothing else says that they are all."""

    def next_name() -> Waiting[str | None]:
        yield from source.skip_space()
        if (yield from source.takes(INVOKE_END)):
            return None
        yield from source.expect(PARAMETER)
        return (yield from _name(source))

    return as_object(next_name, lambda name: value(source, types.get(name, frozenset({"string"})), PARAMETER_END))


MINIMAX = MinimaxCalls()
"""The one instance of it."""
