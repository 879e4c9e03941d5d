"""How small a value of each part of a schema can be, and which parts no value completes. It knows no automata.

A definition that requires itself is never complete: an answer that enters it goes on for ever. The sizes are a least
fixpoint: all are endless at first, and whatever has an end by what is known of its parts is given a size.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from quire_engine.errors import GrammarError

MAX_STEPS = 1_000_000
"""Parts that are looked at in all, those whose own parts were found to be smaller again."""
GREATEST = 1_000_000
"""Sizes beyond this are told as this."""

_ONE = ("items", "additionalItems", "additionalProperties")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_FORMAT = 40
"""Characters of a value in the longest of the formats."""
_COUNT = re.compile(r"\{(\d+)")


class Completion:
    """The least size of a value, in tokens or what `width` counts, for each part of an enforced schema."""

    def __init__(self, schema: Mapping[str, Any], width: Callable[[str], int] = len) -> None:
        self._width = width
        self._places = dict(_parts(schema, ""))
        self._has_bases = any("$id" in part or "id" in part for place, part in self._places.items() if place)
        self._sizes: dict[int, float] = {id(part): math.inf for part in self._places.values()}
        self._is_told = self._settle()

    def size(self, schema: Any) -> float:
        """Of one part; infinite where no value completes it."""
        if isinstance(schema, bool):
            return 1 if schema else math.inf
        return self._sizes.get(id(schema), 1)

    @property
    def greatest_opening(self) -> int:
        """By how much one choice, of an item, a member or a case, may lengthen the shortest way to the end."""
        sizes = [self.size(part) + key for schema in self._places.values() for key, part in self._openings(schema)]
        return int(max((size for size in sizes if size < math.inf), default=0))

    def drop_endless(self, pointer: str) -> None:
        """Leave out of the schema itself what no value completes. GrammarError where all that is left would be such."""
        if not self._is_told:
            raise GrammarError(f"The schema at {pointer or '/'}: its references are too entangled: part them.")
        if math.inf not in self._sizes.values():
            return
        if self.size(self._places[""]) == math.inf:
            at = self._cause()
            problem = "it is required within itself, without end: make it optional, or give it another case"
            raise GrammarError(f"The schema at {pointer + at or '/'}: {problem}.")
        for schema in self._places.values():
            self._drop_parts(schema)

    def _settle(self) -> bool:
        """Find the sizes; whether that came to an end."""
        users: dict[int, list[dict[str, Any]]] = {}
        for schema in self._places.values():
            for part in self._uses(schema):
                users.setdefault(id(part), []).append(schema)
        waiting = deque(self._places.values())
        queued = {id(schema) for schema in waiting}
        steps = 0
        while waiting and steps < MAX_STEPS:
            schema = waiting.popleft()
            queued.discard(id(schema))
            steps += 1 + sum(len(schema[word]) for word in (*_LISTED, *_NAMED) if word in schema)
            size = self._least(schema)
            if size < self._sizes[id(schema)]:
                self._sizes[id(schema)] = size
                again = [user for user in users.get(id(schema), ()) if id(user) not in queued]
                queued.update(map(id, again))
                waiting.extend(again)
        return not waiting

    def _uses(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """What the size of a schema depends on."""
        target = self._target(schema)
        yield from (part for _, part in _children(schema) if isinstance(part, Mapping))
        if target is not None:
            yield target

    def _target(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a reference by pointer points to; None for others, of which nothing is said."""
        target = schema.get("$ref")
        if target is None or self._has_bases or not target.startswith("#"):
            return None
        return self._places.get(unquote(target[1:]))

    def _least(self, schema: Mapping[str, Any]) -> float:
        """The size of a schema by what is known of its parts: at least what each of its keywords demands."""
        demands = [self._plain(schema), *(self.size(part) for part in schema.get("allOf", ()))]
        cases = [schema[word] for word in ("anyOf", "oneOf") if word in schema]
        demands += [min(map(self.size, each), default=math.inf) for each in cases]
        if (target := self._target(schema)) is not None:
            demands.append(self.size(target))
        least = max(demands)
        return least if least == math.inf else min(least, GREATEST)

    def _plain(self, schema: Mapping[str, Any]) -> float:
        """What is demanded but by references, cases and allOf."""
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if isinstance(schema.get("enum"), list) else [schema.get("const")]
            return min((self._width(json.dumps(value, ensure_ascii=False)) for value in values), default=1)
        kinds = schema.get("type", "null")
        sizes = [self._of_kind(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds])]
        return min(sizes, default=1)

    def _of_kind(self, kind: Any, schema: Mapping[str, Any]) -> float:
        if kind == "object":
            return 2 + sum(self.size(part) + key for key, part in self._required(schema))
        if kind == "array":
            return 2 + sum(count * (self.size(part) + 1) for part, count in _first_items(schema))
        if kind == "string":
            return 2 + _letters(schema)
        return 1 + max((len(str(schema[word])) for word in ("minimum", "maximum") if word in schema), default=0)

    def _required(self, schema: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        """The properties that there must be: the width of the key, and the schema."""
        properties = schema.get("properties", {})
        other = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        keys = schema.get("required", ())
        for key in keys if isinstance(keys, list) else ():
            if isinstance(key, str):
                yield self._width(key) + 4, properties.get(key, other)

    def _openings(self, schema: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        """Parts that an answer may enter and need not: what stands before them, and the schema."""
        required = schema.get("required", ())
        for key, part in schema.get("properties", {}).items():
            if key not in required:
                yield self._width(key) + 4, part
        for pattern, part in schema.get("patternProperties", {}).items():
            yield len(pattern) + 4, part
        for word in ("anyOf", "oneOf", "prefixItems"):
            yield from ((1, part) for part in schema.get(word, ()))
        for word in ("additionalProperties", "additionalItems", "items"):
            parts = schema.get(word, True)
            yield from ((5, part) for part in (parts if isinstance(parts, list) else [parts]))

    def _drop_parts(self, schema: Any) -> None:
        """Leave out the parts of a schema, which has an end itself, that have none."""
        if self.size(schema) == math.inf:
            return
        for word in ("anyOf", "oneOf"):
            if word in schema:
                schema[word] = [part for part in schema[word] if self.size(part) < math.inf]
        for word in ("properties", "patternProperties"):
            for key, part in schema.get(word, {}).items():
                schema[word][key] = part if self.size(part) < math.inf else False
        for word in ("prefixItems", "items"):
            if isinstance(schema.get(word), list):
                schema[word] = [part if self.size(part) < math.inf else False for part in schema[word]]
        for word in _ONE:
            if word in schema and not isinstance(schema[word], list) and self.size(schema[word]) == math.inf:
                schema[word] = False

    def _cause(self) -> str:
        """The place where an endless schema leads back into itself."""
        places = {id(part): place for place, part in self._places.items()}
        seen: list[str] = []
        part: Any = self._places[""]
        while isinstance(part, Mapping) and places[id(part)] not in seen:
            seen.append(places[id(part)])
            part = next(demanded for demanded in self._demanded(part) if self.size(demanded) == math.inf)
        return seen[-1]

    def _demanded(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """The parts one of which is endless where the schema is; an empty list of cases counts as false."""
        if (target := self._target(schema)) is not None:
            yield target
        yield from schema.get("allOf", ())
        yield from (part for _, part in self._required(schema))
        yield from (part for part, _ in _first_items(schema))
        for word in ("anyOf", "oneOf"):
            yield from schema.get(word, ())
        yield False


def _parts(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas in one by their JSON pointers, what is within others first."""
    if isinstance(schema, dict):
        for step, part in _children(schema):
            yield from _parts(part, f"{at}/{step}")
        yield at, schema


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly in one, and how a JSON pointer leads to them."""
    for word in (*_ONE, *_LISTED):
        parts = schema.get(word, ())
        if isinstance(parts, list | tuple):
            yield from ((f"{word}/{place}", part) for place, part in enumerate(parts))
        else:
            yield word, parts
    for word in _NAMED:
        for name, part in schema.get(word, {}).items():
            yield f"{word}/{name.replace('~', '~0').replace('/', '~1')}", part


def _first_items(schema: Mapping[str, Any]) -> list[tuple[Any, int]]:
    """The schemas of the items that there must be, and how many there must be of each."""
    count, items = schema.get("minItems", 0), schema.get("items", True)
    if not isinstance(count, int) or count < 1:
        return []
    first = [*schema.get("prefixItems", ()), *(items if isinstance(items, list) else ())]
    rest = schema.get("additionalItems", True) if isinstance(items, list) else items
    others = count - len(first)
    return [*((part, 1) for part in first[:count]), *([(rest, others)] if others > 0 else [])]


def _letters(schema: Mapping[str, Any]) -> int:
    """About as many as a string must have."""
    length, pattern = schema.get("minLength", 0), schema.get("pattern", "")
    least = len(pattern) + sum(map(int, _COUNT.findall(pattern))) if isinstance(pattern, str) else 0
    return min(GREATEST, max(length if isinstance(length, int) else 0, least, _FORMAT * ("format" in schema)))
