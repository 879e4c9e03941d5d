"""Calls as a Python list of calls, which is the whole answer: Llama 3.2 and 4 and others that are asked for it.

    [get_weather(city="Kyoto", days=3), now()]

After the chat templates that ask for it; the seed system reads it in `tool_parsers/pythonic_tool_parser.py` and
`llama4_pythonic_tool_parser.py`. An answer is a list of calls when it begins with the name of one of the request's
functions; another list is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from quire_engine.errors import GrammarError
from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded, Content
from quire_engine.text.formats.scanner import Pieces, Reader, Reading, Source, Waiting, told, until
from quire_engine.text.formats.tools.json_call import choice, repeated
from quire_engine.text.formats.tools.named_arguments import as_object
from quire_engine.text.formats.tools.python_values import closes, comma_or, python_value, word

_NAME = re.compile(r"[^\W\d][\w-]*")
_SPACE = re.compile(r"\s*")
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "$comment"})
_KEYWORDS = _ANNOTATIONS | {
    "type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id", "strict"
}  # fmt: skip
"""Keywords of an object that are held where arguments are written one by one."""


@dataclass(frozen=True, slots=True)
class PythonicCalls:
    """The `ToolFormat` of models that write a list of calls, between marks or without."""

    name: str
    aliases: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    """What may open and close the list."""
    in_template: tuple[str, ...] = ()
    """Texts that stand, all of them, in templates of models that write calls this way."""

    def wrote(self, template: str) -> bool:
        """Whether the template has all that those of this format have."""
        return all(text in template for text in self.in_template)

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        names = frozenset(tool.name for tool in tools)
        return Reader(lambda source: self._read(source, names))

    def opening(self) -> None:
        """Calls are the whole answer."""

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """A list of calls with values as JSON, which Python reads too but for its three words."""
        one = notation.rule(choice([_call_grammar(tool, notation) for tool in tools]))
        return f"{notation.text('[')} {repeated(one, notation.text(', '), several=several)} {notation.text(']')}"

    def _read(self, source: Source, names: Collection[str]) -> Reading[None]:
        if self.marks:
            yield from source.takes(self.marks[0])
        name, taken = yield from _first_call(source, names)
        if name is not None:
            yield from _read_calls(source, name)
            yield from source.skip_space()
        else:
            yield Content(taken)
        while (yield from told(until(source, *self.marks), Content)):
            pass  # a mark, which is no text


def _first_call(source: Source, names: Collection[str]) -> Waiting[tuple[str | None, str]]:
    """Take what begins a list of calls, up to the arguments of the first; its name. Else None, and what was taken."""
    taken = yield from source.run(_SPACE)
    if not (yield from source.takes("[")):
        return None, taken
    taken += "[" + (yield from source.run(_SPACE))
    for name in sorted(names, key=len, reverse=True):  # one may begin with another
        if (yield from source.takes(name)):
            taken += name + (yield from source.run(_SPACE))
            return (name, taken) if (yield from source.takes("(")) else (None, taken)
    return None, taken


def _read_calls(source: Source, name: str) -> Reading[None]:
    """The calls of a list, from the arguments of the first one on. They are whole also where the list is cut off."""
    for index in count():
        yield CallBegan(index, name)
        yield from told(_arguments(source), partial(CallArguments, index))
        yield CallEnded(index)
        yield from source.skip_space()
        if (yield from source.peek()) not in ("]", ""):
            yield from source.expect(",")
        if (yield from closes(source, "]")) or not (yield from source.peek()):
            return
        name = yield from word(source, "a call")
        yield from source.skip_space()
        yield from source.expect("(")


def _arguments(source: Source) -> Pieces[None]:
    """The arguments of a call behind its parenthesis, each of which has a name."""

    def next_name() -> Waiting[str | None]:
        if (yield from closes(source, ")")):
            return None
        name = yield from word(source, "the name of an argument")
        yield from source.skip_space()
        yield from source.expect("=")
        yield from source.skip_space()
        return name

    def value(name: str) -> Pieces[None]:
        yield from python_value(source)
        yield from comma_or(source, ")")

    return as_object(next_name, value)


def _call_grammar(tool: Tool, notation: Notation) -> str:
    """A call of this tool. Where its schema names no argument, it has any that `additionalProperties` lets in."""
    _refuse(tool.parameters.keys() - _KEYWORDS, "", f"the parameters of {tool.name}")
    others = tool.parameters.get("additionalProperties", True)
    if tool.parameters.get("properties") or tool.parameters.get("required"):
        arguments = _arguments_grammar(tool, notation)
    elif others is False:
        arguments = ""
    else:
        value = _value_grammar(others, tool, notation, "/additionalProperties")
        one = notation.rule(f"{notation.regex('[A-Za-z_][A-Za-z0-9_]*=')} {value}")
        arguments = f"({repeated(one, notation.text(', '), several=True)})?"
    return f"({notation.text(f'{tool.name}(')} {arguments} {notation.text(')')})"


def _arguments_grammar(tool: Tool, notation: Notation) -> str:
    """The arguments of a tool, in its schema's order; those that are not required may be left out."""
    properties: Mapping[str, Any] = tool.parameters.get("properties") or {}
    required: Sequence[str] = tool.parameters.get("required") or ()
    first: list[str] = []  # the ways to go on where no argument stands before
    further, comma = "", notation.text(", ")
    for name in reversed([*properties, *(name for name in required if name not in properties)]):
        if not _NAME.fullmatch(name):
            problem = "cannot be written as the name of an argument."
            raise GrammarError(f"{name!r}, in the parameters of {tool.name}, {problem}", param="tools")
        value = _value_grammar(properties.get(name, True), tool, notation, f"/properties/{name}")
        argument = notation.rule(f"{notation.text(f'{name}=')} {value}")
        begun = f"({argument} {further})"
        first = [begun] if name in required else [begun, *first]
        further = notation.rule(f"({comma} {argument}){'' if name in required else '?'} {further}")
    return f"{choice(first)}{'' if required else '?'}" if first else ""


def _value_grammar(schema: Any, tool: Tool, notation: Notation, pointer: str) -> str:
    """A value of this schema. References lead into definitions alone, since the rest of the root is not with it."""
    if not isinstance(schema, Mapping):
        return notation.json(schema)
    if schema.keys() - _ANNOTATIONS == {"type"} and schema["type"] == "boolean":
        return choice([notation.text("True"), notation.text("False")])
    if any(not reference.startswith(("#/$defs/", "#/definitions/")) for reference in _references(schema)):
        _refuse({"$ref"}, pointer, f"the parameters of {tool.name}")
    definitions = {key: tool.parameters[key] for key in ("$defs", "definitions") if key in tool.parameters}
    return notation.json({**schema, **definitions})


def _references(schema: Any) -> Iterator[str]:
    """All that a schema refers to."""
    if isinstance(schema, Mapping):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _refuse(keywords: Collection[str], pointer: str, where: str) -> None:
    """GrammarError for keywords that say of an object what cannot be said of arguments one by one."""
    if keywords:
        raise GrammarError(
            f"{pointer}/{min(keywords)}, in {where}, cannot be held in arguments that are written one by one: leave it "
            "out, or use it below an argument that is an object or a list.",
            param="tools",
        )


PYTHONIC = PythonicCalls(name="pythonic", in_template=("func_name1(",))
"""The list alone."""
LLAMA4_PYTHONIC = PythonicCalls(
    name="llama4_pythonic",
    marks=("<|python_start|>", "<|python_end|>"),
    in_template=("func_name1(", "<|header_start|>"),
)
"""The list, which Llama 4 puts between marks now and then."""
