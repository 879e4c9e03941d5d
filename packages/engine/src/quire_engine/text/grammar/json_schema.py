"""JSON Schemas as the grammar library reads them. It knows which of their keywords can be enforced, and refuses others.

What is refused and why was found by measurement, `tools/grammars.py`: every keyword of drafts 7 and 2020-12, in
the schemas of their test suite. Nothing is left out quietly that would let pass a value the schema does not allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from quire_engine.errors import GrammarError
from quire_engine.text.grammar import string_formats
from quire_engine.text.grammar.completion import Completion
from quire_engine.text.grammar.conjunctions import check_conjunctions
from quire_engine.text.grammar.patterns import check_unicode

MAX_DEPTH = 64
"""Levels of objects and lists within one another in a schema."""
MAX_LEVELS = 1200
"""Levels of all schemas that references point to, taken together: the grammar library follows them into one another."""
MAX_DIVISOR = 4096
"""Greatest multipleOf, without its point and its last zeros: the grammar counts through all remainders."""

_COUNTS = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"))
_NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_NAMES = frozenset(("$id", "id", "$anchor"))
_PLAIN = _COUNTS | _NUMBERS | _NAMES | {"type", "enum", "const", "required", "pattern"}
"""Keywords that are enforced, and hold no schemas."""

_OF_ONE_SCHEMA = frozenset(("items", "additionalItems", "additionalProperties"))
_OF_SCHEMAS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_OF_NAMED_SCHEMAS = frozenset(("properties", "patternProperties", "$defs", "definitions"))

_CASES = "write the cases out as anyOf"
_OLD = "it is of an old draft: write the schema in draft 2020-12"
REFUSED: Mapping[str, str] = {
    "not": "say what values may be, with enum, pattern or anyOf",
    "if": _CASES,
    "then": _CASES,
    "else": _CASES,
    "contains": "say what all items are, with items, or the first ones, with prefixItems",
    "minContains": "say how many items there are, with minItems",
    "maxContains": "say how many items there are, with maxItems",
    "uniqueItems": "leave it out, and drop what is repeated when the answer is there",
    "propertyNames": "use patternProperties, with additionalProperties false",
    "dependentRequired": _CASES,
    "dependentSchemas": _CASES,
    "dependencies": _CASES,
    "unevaluatedProperties": "use additionalProperties beside the properties",
    "unevaluatedItems": "use items beside prefixItems",
    "$dynamicRef": "use $ref",
    "$dynamicAnchor": "use $anchor",
    "$recursiveRef": "use $ref",
    "$recursiveAnchor": "use $anchor",
    "disallow": _OLD,
    "divisibleBy": _OLD,
    "extends": _OLD,
}
"""Keywords that cannot be enforced, and what to do instead."""

_ASSERTIONS = _PLAIN | _OF_SCHEMAS | {*REFUSED, "$ref", "format"} - _NAMES
"""Keywords that say something of a string."""

_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "not": (False,),
    "uniqueItems": (False,),
    "propertyNames": (True, {}, {"type": "string"}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "$recursiveAnchor": (False,),
}
"""Values with which these keywords allow everything."""
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "then": ("if",),
    "else": ("if",),
    "if": ("then", "else"),
    "minContains": ("contains",),
    "maxContains": ("contains",),
}
"""Keywords that say nothing where none of these stands beside them."""

_UNWRITABLE = re.compile("[\x00-\x07\x0b\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that JSON could only write by their numbers, and the grammar does not allow to: a key's other spelling
would be another key to the grammar, and the same one to whoever reads the answer."""


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """Where JSON may have whitespace. It is bounded: a model that has lost its way would write nothing else."""

    item_separator: str = ", ?"
    """A regular expression of what stands between items, and between members."""
    key_separator: str = ": ?"
    """A regular expression of what stands between a key and its value."""
    whitespace: str | None = None
    """A regular expression of what may stand wherever JSON allows whitespace, instead of these."""
    closed: bool = False
    """Whether objects have only the properties that their schemas name."""

    @property
    def options(self) -> dict[str, Any]:
        """The same as the grammar library's options."""
        options: dict[str, Any] = {"json_allowed_escapes": 'nrbtf\\"'}
        if self.whitespace is not None:
            return {**options, "whitespace_pattern": self.whitespace}
        separators = {"item_separator": self.item_separator, "key_separator": self.key_separator}
        return {**options, **separators, "whitespace_flexible": False}


COMPACT = JsonStyle()
"""One space or none behind commas and colons: what models write on one line."""


def as_enforced(schema: Mapping[str, Any] | bool, style: JsonStyle = COMPACT, pointer: str = "") -> dict[str, Any]:
    """The schema as the grammar library enforces it. GrammarError, with the JSON pointer, for what it cannot.

    What it says to readers is left out. `pointer` is where the schema stands itself.
    """
    return Document(schema, style, pointer).enforced


def loaded(text: str) -> Mapping[str, Any] | bool:
    """The schema that a text is. GrammarError for what is no JSON, or no schema."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"The schema is no JSON: {error}.") from error
    if not isinstance(schema, Mapping | bool):
        raise GrammarError(f"A JSON Schema is an object, this is {_kind(schema)}.")
    return schema


@dataclass
class Document:
    """One schema, read once."""

    schema: Mapping[str, Any] | bool
    style: JsonStyle
    pointer: str
    enforced: dict[str, Any] = field(init=False)
    """The schema as the grammar library enforces it."""
    places: dict[str, Any] = field(init=False, default_factory=dict)
    """The schemas in it as they are enforced, by JSON pointer: what is within others comes first."""

    def __post_init__(self) -> None:
        self._references: dict[str, str] = {}  # what they point to, and the first place that does
        check_depth(self.schema, "schema", self.pointer)
        if self.schema is False:
            raise self._fault("", "false is satisfied by no JSON: leave it out.")
        root = self._read(self.schema, "")
        self._check_references()
        keywords = root if isinstance(root, dict) else {}
        check_conjunctions(self.places, self.pointer)
        if self._references:  # nothing else leads back into itself
            Completion(keywords).drop_endless(self.pointer)
        self.enforced = {**keywords, "x-guidance": self.style.options}
        check_unicode(json.dumps(self.enforced, ensure_ascii=False), f"The schema at {self.pointer or '/'}")

    def _read(self, schema: Any, at: str) -> dict[str, Any] | bool:
        """A schema in it, without what says nothing."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise self._fault(at, f"a schema is an object, true or false, not {_kind(schema)}.")
        kept: dict[str, Any] = {}
        for keyword in sorted(schema, key="propertyNames".__eq__):  # what names come to is said last
            kept |= self._keyword(keyword, schema[keyword], schema, f"{at}/{_escaped(keyword)}")
        if self.style.closed and "properties" in kept and "patternProperties" not in kept:
            kept.setdefault("additionalProperties", False)
        self._check_least(kept, at)
        self.places[at] = kept
        return kept

    def _keyword(self, keyword: str, value: Any, schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        """What a keyword comes to: itself, others, or nothing."""
        if keyword in REFUSED:
            return self._refusable(keyword, value, schema, at)
        if keyword in _OF_ONE_SCHEMA:
            return {keyword: self._list(value, at) if isinstance(value, list) else self._read(value, at)}
        if keyword in _OF_SCHEMAS:
            return {keyword: self._list(value, at)}
        if keyword in _OF_NAMED_SCHEMAS:
            return {keyword: self._named(value, at)}
        if keyword == "$ref":
            return self._reference(value, schema, at)
        if keyword == "format":
            return self._format(value, schema, at)
        if keyword in _PLAIN:
            self._check_writable(value, at)
            if keyword == "multipleOf":
                self._check_divisor(value, at)
            is_whole = keyword in _COUNTS and isinstance(value, float) and value.is_integer()
            return {keyword: int(value) if is_whole else value}
        return {}  # an annotation, or a word that JSON Schema does not know and so takes for one

    def _list(self, schemas: Any, at: str) -> list[Any]:
        if not isinstance(schemas, list):
            raise self._fault(at, f"here stands a list of schemas, not {_kind(schemas)}.")
        return [self._read(schema, f"{at}/{place}") for place, schema in enumerate(schemas)]

    def _named(self, schemas: Any, at: str) -> dict[str, Any]:
        if not isinstance(schemas, Mapping):
            raise self._fault(at, f"here stands an object of schemas by name, not {_kind(schemas)}.")
        self._check_writable(list(schemas), at)
        return {name: self._read(schema, f"{at}/{_escaped(name)}") for name, schema in schemas.items()}

    def _refusable(self, keyword: str, value: Any, schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        """A keyword that cannot be enforced: nothing, where it says nothing; another way to say the same, if any."""
        needs = _NEEDS.get(keyword)
        if needs is not None and not any(need in schema for need in needs):
            return {}
        if any(value is nothing or (value == nothing and nothing == {}) for nothing in _SAYS_NOTHING.get(keyword, ())):
            return {}
        if keyword == "propertyNames":
            if value == {"type": "string"}:
                return {}
            if (keys := self._keys(value, schema, at)) is not None:
                return keys
        raise self._fault(at, f"{keyword} cannot be enforced while an answer is written: {REFUSED[keyword]}.")

    def _keys(self, names: Any, schema: Mapping[str, Any], at: str) -> dict[str, Any] | None:
        """Names of properties as the properties themselves, where nothing else says anything about them."""
        if any(word in schema for word in ("properties", "patternProperties")):
            return None
        names = self._resolved(names)
        said = {keyword: value for keyword, value in names.items() if keyword in _ASSERTIONS}
        if said.pop("type", "string") != "string":
            return None
        value = self._read(schema.get("additionalProperties", True), f"{at[: at.rindex('/')]}/additionalProperties")
        match said:
            case {"enum": [*keys]} if len(said) == 1 and all(isinstance(key, str) for key in keys):
                self._check_writable(keys, at)
                return {"properties": dict.fromkeys(keys, value), "additionalProperties": False}
            case {"pattern": str(pattern)} if len(said) == 1:
                return {"patternProperties": {pattern: value}, "additionalProperties": False}
        return None

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """A schema that only points to another one under $defs as that one."""
        match schema:
            case {"$ref": str(target)} if len(schema) == 1 and isinstance(self.schema, Mapping):
                names = self.schema.get("$defs", {})
                found = names.get(target.removeprefix("#/$defs/")) if isinstance(names, Mapping) else None
                return found if isinstance(found, Mapping) else {}
        return schema if isinstance(schema, Mapping) else {}

    def _reference(self, target: Any, schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        if not isinstance(target, str):
            raise self._fault(at, f"a reference is text, not {_kind(target)}.")
        if "$id" in schema or "id" in schema:
            raise self._fault(
                at, "a reference beside an $id means one thing in draft 7 and another in 2020-12: part them."
            )
        self._references.setdefault(target, at)
        return {"$ref": target}

    def _check_references(self) -> None:
        """References stay within the schema, point to what was read as schemas, and do not lead too deep."""
        has_names = any("$id" in place or "id" in place for place in self.places.values())
        levels = 0
        for target, at in self._references.items():
            if not target.startswith("#") and not has_names:
                raise self._fault(at, f"{target} is outside of the schema, and nothing is fetched: put it under $defs.")
            place = unquote(target[1:]) if target.startswith("#/") else ""
            if place not in self.places:
                raise self._fault(at, f"{target} points to no schema: put it under $defs.")
            levels += depth(self.places[place])
        if levels > MAX_LEVELS:
            problem = f"references lead through {levels} levels of schemas; {MAX_LEVELS} is the most."
            raise self._fault("", f"{problem} Write schemas that are used once where they are used.")

    def _format(self, name: Any, schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        """A format, or what it comes to in keywords that are enforced."""
        if not isinstance(name, str):
            raise self._fault(at, f"a format is text, not {_kind(name)}.")
        if name in string_formats.SAYS_NOTHING:
            return {}
        if name in string_formats.ENFORCED:
            return {"format": name}
        if name in string_formats.PATTERNS:
            pattern = {"pattern": string_formats.PATTERNS[name]}
            return self._beside(pattern, schema, at)
        if name in string_formats.BOUNDS:
            least, greatest = string_formats.BOUNDS[name]
            bounds = {"minimum": least} if greatest is None else {"minimum": least, "maximum": greatest}
            return self._beside(bounds, schema, at)
        known = ", ".join(sorted(string_formats.ENFORCED | set(string_formats.PATTERNS)))
        raise self._fault(
            at, f"the format {name!r} cannot be enforced: use one of {known}, or a pattern, or leave it out."
        )

    def _beside(self, keywords: dict[str, Any], schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        """These keywords, also where the schema has them itself."""
        if not any(keyword in schema for keyword in keywords):
            return keywords
        if "allOf" in schema:
            raise self._fault(
                at, f"format beside allOf and {' or '.join(keywords)}: put it into one of allOf's schemas."
            )
        return {"allOf": [keywords]}

    def _check_least(self, kept: Mapping[str, Any], at: str) -> None:
        """Keys that are not named may repeat one another, so that of them no more than one can be demanded."""
        least, required = kept.get("minProperties", 0), kept.get("required", ())
        if isinstance(least, int) and isinstance(required, list) and least > len(required) + 1:
            problem = f"{least} properties cannot be enforced beside {len(required)} required ones"
            raise self._fault(f"{at}/minProperties", f"{problem}: other keys may repeat. Name what is required.")

    def _check_divisor(self, value: Any, at: str) -> None:
        digits = repr(value).partition("e")[0].replace(".", "").strip("0")
        if digits.isdecimal() and int(digits) > MAX_DIVISOR:
            raise self._fault(
                at, f"multiples of {value!r} are too many to tell apart: take a divisor below {MAX_DIVISOR}."
            )

    def _check_writable(self, value: Any, at: str) -> None:
        for text in _strings(value):
            if found := _UNWRITABLE.search(text):
                code = f"U+{ord(found.group()):04X}"
                raise self._fault(at, f"{text!r} has the character {code}, which answers cannot have: leave it out.")

    def _fault(self, at: str, problem: str) -> GrammarError:
        return GrammarError(f"The schema at {self.pointer + at or '/'}: {problem}")


def check_depth(value: Any, name: str, pointer: str) -> None:
    """GrammarError for a value, called by this name, that is too deep to be read."""
    if depth(value) > MAX_DEPTH:
        raise GrammarError(
            f"The {name} at {pointer or '/'} has more than {MAX_DEPTH} levels of objects and lists within one another: "
            "put inner schemas under $defs."
        )


def depth(value: Any) -> int:
    """Levels of objects and lists within one another, up to one more than may be."""
    levels, values = 0, [value]
    while values and levels <= MAX_DEPTH:
        levels += 1
        values = [inner for value in values for inner in _inner(value)]
    return levels


def _inner(value: Any) -> Iterator[Any]:
    """The objects and lists directly within a value."""
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return (inner for inner in held if isinstance(inner, Mapping | list | tuple))


def _strings(value: Any) -> Iterator[str]:
    """All text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _kind(value: object) -> str:
    match value:
        case bool() | None:
            return json.dumps(value)
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
    return "an object"


def _escaped(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
