"""Arguments that are written as text between marks, each on its own, and not as JSON: what they mean, by their schema.

`<parameter=days>3</parameter>` is the number 3 where the schema says that `days` is a number, and else a string. It
knows no marks but those that it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quire_engine.errors import GrammarError
from quire_engine.text.formats.base import Notation, Tool
from quire_engine.text.formats.scanner import (
    WHITE_SPACE,
    Malformed,
    Pieces,
    Source,
    Waiting,
    collected,
    gathered,
    json_value,
    told,
    until,
)

ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "object", "array", "string"})

MAX_LEVELS = 64
"""How many references and choices, one within the other, are followed to find a type."""

_TEXT = frozenset({"string"})
_FIRST = {"object": "{", "array": r"\[", "integer": r"\-0-9", "number": r"\-0-9"}
"""What JSON of a type begins with, for those of which a schema can say more than that, as part of a class."""
_PYTHON_WORDS = {"None": "null", "True": "true", "False": "false"}
"""Templates that print values as Python does have taught models these."""
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "format", "$comment"}
)
_OF_ARGUMENTS = _ANNOTATIONS | {
    "type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id", "strict"
}  # fmt: skip
_OF_TEXT = _ANNOTATIONS | {"type", "enum", "const", "pattern", "minLength", "maxLength"}


def properties_of(tools: Sequence[Tool], name: str) -> Mapping[str, frozenset[str]]:
    """The types that the arguments of the tool with this name may have, by their names."""
    tool = next((tool for tool in tools if tool.name == name), None)
    properties = tool.parameters.get("properties") if tool else None
    if tool is None or not isinstance(properties, Mapping):
        return {}
    types = Types(tool.parameters)
    return {key: types.of(schema) for key, schema in properties.items()}


class Types:
    """The JSON types of what satisfies schemas that refer to one root. Owns what is known of those referred to.

    It takes schemas as they come from a client, also wrong ones, and looks at each part once: references and choices
    within one another would else multiply.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[int, frozenset[str]] = {}
        """By the identity of the schema that a reference leads to, as one has many spellings."""

    def of(self, schema: Any, levels: int = MAX_LEVELS) -> frozenset[str]:
        """The types of this schema. One that says nothing of types, or leads back to itself, is one of strings."""
        if not isinstance(schema, Mapping) or not levels:
            return _TEXT
        if isinstance(reference := schema.get("$ref"), str):
            return self._referred(resolved(reference, self._root), levels - 1)
        if "type" in schema:
            return _named(schema["type"]) & ALL_TYPES or _TEXT
        if "const" in schema:
            return frozenset({type_of(schema["const"])})
        if isinstance(values := schema.get("enum"), Sequence) and values:
            return frozenset(map(type_of, values))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(keyword), Sequence) and choices:
                return frozenset().union(*(self.of(each, levels - 1) for each in choices))
        if isinstance(parts := schema.get("allOf"), Sequence) and parts:
            return ALL_TYPES.intersection(*(self.of(each, levels - 1) for each in parts)) or _TEXT
        if "properties" in schema:
            return frozenset({"object"})
        return frozenset({"array"}) if "items" in schema else _TEXT

    def _referred(self, schema: Any, levels: int) -> frozenset[str]:
        if id(schema) not in self._known:
            self._known[id(schema)] = _TEXT  # what it is to itself, while it is looked at
            self._known[id(schema)] = self.of(schema, levels)
        return self._known[id(schema)]


def _named(types: Any) -> frozenset[str]:
    """The types that the keyword `type` names: none where it is neither a name nor a list of them."""
    names = types if isinstance(types, list | tuple) else [types]
    return frozenset(name for name in names if isinstance(name, str))


def type_of(value: Any) -> str:
    """The JSON type of a value; a number without a fraction is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case Mapping():
            return "object"
    return "array"


def resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """The schema at a JSON pointer within the same one; None if there is none."""
    found: Any = root if reference.startswith("#") else None
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def value(source: Source, types: frozenset[str], *ends: str) -> Pieces[str]:
    """The JSON of the argument that stands as text before one of these marks; returns the mark, which is taken.

    Strings are given as they come. Malformed if none of the marks comes.
    """
    is_text = types <= _TEXT
    if is_text:
        yield '"'
        end = yield from told(until(source, *ends), _escaped)
    else:
        text, end = yield from _whole_text(source, *ends)
    if end is None:
        raise source.malformed(repr(ends[-1]))
    yield '"' if is_text else as_json(text, types)
    return end


def _whole_text(source: Source, *ends: str) -> Waiting[tuple[str, str | None]]:
    """The text before one of these marks, and the mark. In an object or a list, marks are text like any."""
    source.hold()
    yield from source.skip_space()
    if (yield from source.peek()) in ("{", "["):
        try:
            text = yield from collected(json_value(source))
            yield from source.skip_space()
            for end in ends:
                if (yield from source.takes(end.strip())):
                    source.let_go()
                    return text, end
        except Malformed:
            pass
    source.back()
    return (yield from gathered(until(source, *ends)))


def _escaped(text: str) -> str:
    """The text as it stands in a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def as_json(text: str, types: frozenset[str]) -> str:
    """What a text means as a value of one of these types, as JSON.

    JSON of another type stays what it is where strings are not allowed either; what is no JSON is a string.
    """
    written = text.strip()
    source = Source()
    source.add(_PYTHON_WORDS.get(written, written))
    source.end()
    try:
        meant = "".join(piece for piece in json_value(source) if piece)
    except Malformed:
        meant = ""
    if meant and not source.size and ("string" not in types or _is_of(json.loads(meant), types)):
        return meant
    return json.dumps(text, ensure_ascii=False)


def _is_of(meant: Any, types: frozenset[str]) -> bool:
    kind = type_of(meant)
    return kind in types or (kind == "integer" and "number" in types)


@dataclass(frozen=True, slots=True)
class TextArguments:
    """How a format writes the arguments of a call, one after the other, as a grammar says it."""

    begin: Callable[[str], str]
    """What stands before the argument of a name."""
    end: str
    """The mark behind a value."""
    space: str = ""
    """White space between a value and that mark."""
    after: str = ""
    """What stands behind the mark."""

    def grammar(self, tool: Tool, notation: Notation) -> str:
        """The arguments of a tool, in its schema's order; those that are not required may be left out.

        A schema that names none has any, as long as `additionalProperties` lets text in. GrammarError, with the JSON
        pointer, for keywords that cannot be held in text.
        """
        schema = tool.parameters
        where = f"the parameters of {tool.name}"
        _only(schema, _OF_ARGUMENTS, where, "")
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required: Sequence[str] = schema.get("required") or ()
        types = Types(schema)
        values = _Values(self, notation, schema, types, where)
        after = notation.text(self.after) if self.after else ""
        others = schema.get("additionalProperties", True)
        if not properties and not required and others is not False and types.of(others) == _TEXT:
            before, behind = map(notation.text, self.begin("\0").split("\0"))
            value = values.grammar(others, "/additionalProperties")
            return f"({before} {notation.regex('[A-Za-z0-9_.-]+')} {behind} {value} {after})*"
        arguments = []
        for name in [*properties, *(name for name in required if name not in properties)]:
            if not name or any(character in name for character in "<>\n"):
                raise GrammarError(
                    f"{name!r}, in {where}, cannot be written as the name of an argument.", param="tools"
                )
            value = values.grammar(properties.get(name, True), f"/properties/{name}")
            arguments.append(f"({notation.text(self.begin(name))} {value} {after}){'' if name in required else '?'}")
        return " ".join(arguments)


@dataclass(frozen=True, slots=True)
class _Values:
    """Writes down the values of one tool's arguments, each with the mark behind it. Owns what it has written."""

    style: TextArguments
    notation: Notation
    root: Mapping[str, Any]
    types: Types
    where: str
    written: dict[int, str] = field(default_factory=dict)
    """The rules of schemas that are referred to, by their identity."""

    def grammar(self, schema: Any, pointer: str, levels: int = MAX_LEVELS) -> str:
        """What may stand for a value of this schema."""
        if not isinstance(schema, Mapping) or not levels:
            return self._text()
        types = self.types.of(schema)
        if "string" not in types:
            return self._json(schema)
        if isinstance(reference := schema.get("$ref"), str):
            return self._referred(resolved(reference, self.root), pointer, levels - 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                _only(schema, _ANNOTATIONS | {keyword}, self.where, pointer)
                return self._choice(schema[keyword], f"{pointer}/{keyword}", levels - 1)
        if "const" in schema or "enum" in schema:
            return self._values([schema["const"]] if "const" in schema else schema["enum"])
        if types > _TEXT:
            return self._choice([{**schema, "type": each} for each in sorted(types)], pointer, levels - 1)
        _only(schema, _OF_TEXT, self.where, pointer)
        return self._string(schema, pointer)

    def _referred(self, schema: Any, pointer: str, levels: int) -> str:
        """The rule of a schema that a reference leads to, written once. In itself, it is any text."""
        if id(schema) not in self.written:
            self.written[id(schema)] = self._text()
            self.written[id(schema)] = self.notation.rule(self.grammar(schema, pointer, levels))
        return self.written[id(schema)]

    def _choice(self, schemas: Sequence[Any], pointer: str, levels: int) -> str:
        """A value of one of these schemas. Text that could be read as the JSON of another one is left to that one."""
        schemas = _distinct(schemas)
        others = [each for each in schemas if "string" not in self.types.of(each)]
        strings = [each for each in schemas if "string" in self.types.of(each)]
        if any(_is_plain(each) for each in strings):
            bounded = [each for each in others if not _is_plain(each)]
            return f"({' | '.join([self._text_beside(bounded), *map(self._json, bounded)])})"
        return f"({' | '.join([*(self.grammar(each, pointer, levels) for each in strings), *map(self._json, others)])})"

    def _text(self) -> str:
        return self.notation.until(self.style.end)

    def _text_beside(self, schemas: Sequence[Any]) -> str:
        """Text that cannot be read as JSON that one of these schemas is about."""
        taken = "".join(sorted({_FIRST.get(kind, "") for each in schemas for kind in self.types.of(each)}))
        if not taken:
            return self._text()
        return f"({self.notation.regex(f'[^{taken}<{WHITE_SPACE}]')} {self._text()} | {self._closing()})"

    def _json(self, schema: Mapping[str, Any]) -> str:
        definitions = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        return f"({self.notation.json({**schema, **definitions})} {self._closing()})"

    def _values(self, values: Sequence[Any]) -> str:
        written = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in values]
        return f"({' | '.join(self.notation.text(each + self.style.space + self.style.end) for each in written)})"

    def _closing(self) -> str:
        return self.notation.text(self.style.space + self.style.end)

    def _string(self, schema: Mapping[str, Any], pointer: str) -> str:
        if _is_plain(schema):
            return self._text()
        if "pattern" not in schema:
            least, most = schema.get("minLength", 0), schema.get("maxLength", "")
            pattern = f"[^<]{{{least},{most}}}"
        elif schema.keys().isdisjoint({"minLength", "maxLength"}):
            pattern = _as_whole(schema["pattern"])
        else:
            problem = (
                f"pattern beside a length, at {pointer} in {self.where}, cannot be held in text: say it as a pattern."
            )
            raise GrammarError(problem, param="tools")
        return self.notation.regex(f"(?:{pattern}){re.escape(self.style.space + self.style.end)}")


def _distinct(schemas: Sequence[Any]) -> list[Any]:
    """Each of these schemas once."""
    return [*{json.dumps(schema, sort_keys=True): schema for schema in schemas}.values()]


def _is_plain(schema: Any) -> bool:
    """Whether a schema says no more than a type."""
    return not isinstance(schema, Mapping) or schema.keys() <= _ANNOTATIONS | {"type"}


def _only(schema: Mapping[str, Any], keywords: frozenset[str], where: str, pointer: str) -> None:
    """GrammarError for a keyword that is none of these."""
    if unknown := next((keyword for keyword in schema if keyword not in keywords), None):
        raise GrammarError(
            f"{pointer}/{unknown}, in {where}, cannot be held in arguments that are written as text: leave it out, or "
            "use it below an argument that is an object or a list.",
            param="tools",
        )


def _as_whole(pattern: str) -> str:
    """A schema's pattern, which may match anywhere, as one of a whole text in which no mark begins beside the match."""
    ways = []
    for way in _ways(pattern):
        begins = way.startswith("^")
        ends = way.endswith("$") and not way.endswith("\\$")
        inner = way[begins : len(way) - ends]
        ways.append(f"{'' if begins else '[^<]*'}(?:{inner}){'' if ends else '[^<]*'}")
    return "|".join(ways)


def _ways(pattern: str) -> Iterator[str]:
    """The alternatives of a regular expression."""
    start = depth = 0
    for part in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]", pattern):
        depth += (part[0] == "(") - (part[0] == ")")
        if part[0] == "|" and not depth:
            yield pattern[start : part.start()]
            start = part.end()
    yield pattern[start:]
