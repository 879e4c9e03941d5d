"""Calls in a section of marked calls, each under its own id: Kimi K2.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Kyoto"}
    <|tool_call_end|><|tool_calls_section_end|>

without the line break. The id is the function's name and the number of the call in its conversation; the model expects
to see it again, so it is passed on, once in an answer. After the models' chat template; the seed system reads it in
`parser/kimi_k2.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded
from quire_engine.text.formats.scanner import Malformed, Reader, Reading, Source, content, gathered, told, until
from quire_engine.text.formats.tools.json_call import arguments, choice, object_schema

SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, CALL_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"

_ID = re.compile(r"(?:functions\.)?(?P<name>[^\s:]+)(?::(?P<number>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class KimiCalls:
    """The `ToolFormat` of Kimi K2."""

    name: str = "kimi_k2"
    aliases: tuple[str, ...] = ()
    marks: tuple[str, ...] = (SECTION, CALL, ARGUMENTS, CALL_END, SECTION_END)

    def wrote(self, template: str) -> bool:
        """Whether the template writes sections of calls."""
        return SECTION in template

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(_read)

    def opening(self) -> str:
        """What opens a section."""
        return SECTION

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """A section of calls, whose numbers are for the model to choose."""
        number, inner, end = notation.regex("[0-9]{1,3}"), notation.text(ARGUMENTS), notation.text(CALL_END)
        heads = [f"{notation.text(f'{CALL}functions.{tool.name}:')} {number} {inner}" for tool in tools]
        bodies = [notation.json(object_schema(tool)) for tool in tools]
        one = notation.rule(choice([f"{head} {body} {end}" for head, body in zip(heads, bodies, strict=True)]))
        return f"{notation.text(SECTION)} {one}{'+' * several} {notation.text(SECTION_END)}"


def _read(source: Source) -> Reading[None]:
    index = 0
    ids: set[str] = set()
    while (yield from content(source, SECTION, after_call=index > 0)):
        yield from source.skip_space()
        first, goes_on = index, True
        while goes_on and (yield from source.takes(CALL)):
            goes_on = yield from _read_call(source, index, ids)
            yield from source.skip_space()
            index += 1
        if goes_on:
            yield from source.expect(SECTION_END) if index == first else source.expect_end(SECTION_END)


def _read_call(source: Source, index: int, ids: set[str]) -> Reading[bool]:
    """A call behind the mark that opens it, to its end or its section's; returns whether the section goes on.

    An id that is among the earlier `ids` is none, as results are told apart by them.
    """
    header, mark = yield from gathered(until(source, ARGUMENTS))
    if mark is None:
        raise Malformed("The answer ends in the middle of the id of a call.")
    name, call_id = _named(header.strip())
    yield CallBegan(index, name, None if call_id in ids else call_id)
    if call_id is not None:
        ids.add(call_id)
    yield from source.skip_space()
    goes_on = yield from source.takes(CALL_END)
    if goes_on:
        yield CallArguments(index, "{}")
    else:
        yield from told(arguments(source), partial(CallArguments, index))
        yield from source.skip_space()
        goes_on = yield from source.takes(CALL_END)
    if not goes_on:
        yield from source.expect_end(CALL_END, SECTION_END)
    yield CallEnded(index)
    return goes_on


def _named(header: str) -> tuple[str, str | None]:
    """The name of the function, and the id where it is one. A name alone is understood too."""
    found = _ID.fullmatch(header)
    if found is None:
        raise Malformed(f"{header!r} is not the id of a call.")
    return found["name"], header if found["number"] else None


KIMI_K2 = KimiCalls()
"""The one instance of it."""
