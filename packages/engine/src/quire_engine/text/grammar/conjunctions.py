"""What one value has to satisfy at once, where that takes long. It knows how the parts of a schema come together.

The grammar library makes one automaton of all regular expressions for a string, whose size is the product of theirs:
twenty or so take all memory. So it does with the remainders of numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from quire_engine.errors import GrammarError

MAX_PATTERNS = 6
"""Regular expressions and formats for one string."""
MAX_DIVISORS = 1
"""Numbers of which one number is to be a multiple."""
MAX_KEY_PATTERNS = 64
"""Regular expressions for keys in one schema: each pair of them is compared."""
MAX_STEPS = 20_000
"""Steps of looking for them: a schema that takes more is too entangled."""

_LIMITS = (
    (("pattern", "format"), MAX_PATTERNS, "patterns and formats"),
    (("multipleOf",), MAX_DIVISORS, "multipleOf"),
)
_MAX_PATH = 12
"""Steps into a value to which schemas are followed together."""
_ANY = "*"
_ASIDE = frozenset(("$defs", "definitions", "$id", "id", "$anchor"))


def check_conjunctions(schema: Mapping[str, Any], pointer: str) -> None:
    """GrammarError where a string would have to match more regular expressions than the library can take."""
    search = _Search(schema, pointer)
    keys = sum(len(part["patternProperties"]) for part in _parts(schema) if _has_key_patterns(part))
    if keys > MAX_KEY_PATTERNS:
        search.refuse(f"patternProperties has {keys} patterns for keys; {MAX_KEY_PATTERNS} is the most: use fewer")
    for part in _parts(schema):
        if _members(part) > 1:
            search.check(part)


class _Search:
    """Regular expressions for each place of a value, through references."""

    def __init__(self, document: Mapping[str, Any], pointer: str) -> None:
        self._document = document
        self._pointer = pointer
        self._steps = 0

    def check(self, schema: Mapping[str, Any]) -> None:
        """GrammarError where too much comes together in one value."""
        for words, limit, told in _LIMITS:
            self._steps = 0
            counts = self._count(schema, (), frozenset(), words)
            anywhere = sum(count for path, count in counts.items() if _ANY in path)
            most = max((count + (0 if _ANY in path else anywhere) for path, count in counts.items()), default=0)
            if most > limit:
                self.refuse(f"one value has {most} {told} at once; {limit} is the most: write one for all of them")

    def _count(
        self, schema: Any, path: tuple[str, ...], within: frozenset[str], words: tuple[str, ...]
    ) -> Counter[tuple[str, ...]]:
        """Patterns by the place in the value that they are for."""
        counts: Counter[tuple[str, ...]] = Counter()
        if not isinstance(schema, Mapping):
            return counts
        self._steps += 1
        if self._steps > MAX_STEPS:
            self.refuse("allOf and references are too entangled to be followed: part them")
        counts[path] += sum(word in schema for word in words)
        for part in schema.get("allOf", ()):
            counts += self._count(part, path, within, words)
        for alternatives in ("anyOf", "oneOf"):
            cases = [self._count(case, path, within, words) for case in schema.get(alternatives, ())]
            counts += _most(cases)
        target = schema.get("$ref")
        if target is not None and target not in within:
            counts += self._count(self._resolve(target), path, within | {target}, words)
        if len(path) < _MAX_PATH:
            for step, child in _children(schema):
                counts += self._count(child, (*path, step), within, words)
        return counts

    def _resolve(self, target: str) -> Any:
        """The schema that a reference points to; nothing, for one by a name: the library finds few of those."""
        found: Any = self._document
        if not target.startswith("#"):
            return None
        for step in target[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(key)] if key.isdecimal() and int(key) < len(found) else None
            else:
                found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def refuse(self, problem: str) -> NoReturn:
        """GrammarError for this schema."""
        raise GrammarError(f"The schema at {self._pointer or '/'}: {problem}.")


def _has_key_patterns(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("patternProperties"), Mapping)


def _members(schema: Mapping[str, Any]) -> int:
    """How many schemas a value has to satisfy at once, by this one alone."""
    alternatives = sum(word in schema for word in ("$ref", "anyOf", "oneOf"))
    plain = any(keyword not in _ASIDE | {"$ref", "anyOf", "oneOf", "allOf"} for keyword in schema)
    every = schema.get("allOf")
    return alternatives + plain + (len(every) if isinstance(every, list) else 0)


def _most(cases: list[Counter[tuple[str, ...]]]) -> Counter[tuple[str, ...]]:
    """For each place the greatest count of all cases."""
    most: Counter[tuple[str, ...]] = Counter()
    for case in cases:
        most |= case
    return most


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas for parts of a value, and which part they are for."""
    yield from schema.get("properties", {}).items()
    yield from ((_ANY, child) for child in schema.get("patternProperties", {}).values())
    yield _ANY, schema.get("additionalProperties")
    items = schema.get("items")
    for place, child in enumerate([*schema.get("prefixItems", ()), *(items if isinstance(items, list) else ())]):
        yield str(place), child
    if isinstance(items, Mapping):
        yield _ANY, items
    yield _ANY, schema.get("additionalItems")


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a schema."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
