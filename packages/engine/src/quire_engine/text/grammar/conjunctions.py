"""What one value has to satisfy at once, where that takes long. It knows how the parts of a schema come together.

The grammar library makes one automaton of all regular expressions for a string, whose size is the product of theirs:
twenty or so take all memory. So it does with the remainders of numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

from quire_engine.errors import GrammarError

MAX_PATTERNS = 6
"""Regular expressions and formats for one string."""
MAX_DIVISORS = 1
"""Numbers of which one number is to be a multiple."""
MAX_KEY_PATTERNS = 64
"""Regular expressions for keys in one schema: each pair of them is compared."""
MAX_STEPS = 100_000
"""Steps of looking for them in one document: a schema that takes more is too entangled."""
MAX_PATH = 64
"""Steps into a value to which schemas are followed together; a schema that leads further is refused too."""

_LIMITS = (
    (("pattern", "format"), MAX_PATTERNS, "patterns and formats"),
    (("multipleOf",), MAX_DIVISORS, "multipleOf"),
)
_ANY = "*"
_NAMES = ("$id", "id", "$anchor")
_ASIDE = frozenset(("$defs", "definitions", *_NAMES))


def check_conjunctions(places: Mapping[str, Mapping[str, Any]], pointer: str) -> None:
    """GrammarError where a string would have to match more regular expressions than the library can take.

    `places` are a schema and all the schemas in it, by JSON pointer.
    """
    search = _Search(places, pointer)
    keys = sum(len(part.get("patternProperties", ())) for part in places.values())
    if keys > MAX_KEY_PATTERNS:
        search.refuse(f"patternProperties has {keys} patterns for keys; {MAX_KEY_PATTERNS} is the most: use fewer")
    for words, limit, told in _LIMITS:
        if not any(word in part for word in words for part in places.values()):
            continue
        for part in places.values():
            if _members(part) > 1:
                search.check(part, words, limit, told)


class _Search:
    """Regular expressions for each place of a value, through references."""

    def __init__(self, places: Mapping[str, Mapping[str, Any]], pointer: str) -> None:
        self._places = places
        self._pointer = pointer
        self._steps = 0
        self._has_bases = any(name in part for place, part in places.items() if place for name in ("$id", "id"))
        """Whether references mean something else in some of its parts than in the others."""

    def check(self, schema: Mapping[str, Any], words: tuple[str, ...], limit: int, told: str) -> None:
        """GrammarError where more of these words than the limit come together in one value."""
        try:
            counts = self._count(schema, (), frozenset(), words)
        except RecursionError:
            self._refuse_entangled()
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
        if self._steps > MAX_STEPS or len(path) > MAX_PATH:
            self._refuse_entangled()
        if found := sum(word in schema for word in words):
            counts[path] += found
        for part in schema.get("allOf", ()):
            counts.update(self._count(part, path, within, words))
        for alternatives in ("anyOf", "oneOf"):
            counts.update(_most([self._count(case, path, within, words) for case in schema.get(alternatives, ())]))
        target = schema.get("$ref")
        if target is not None and target not in within:
            counts.update(self._count(self._resolve(target), path, within | {target}, words))
        for step, child in _children(schema):
            counts.update(self._count(child, (*path, step), within, words))
        return counts

    def _resolve(self, target: str) -> Any:
        """The schema that a reference points to. GrammarError for one by a name that is not to be followed here."""
        root = self._places[""]
        base, _, fragment = target.partition("#")
        place = unquote(fragment)
        named = (part for part in self._places.values() if part.get("$anchor") == place)
        found = self._places[place] if place in self._places else next(named, None)
        if self._has_bases or base not in ("", root.get("$id"), root.get("id")) or found is None:
            self.refuse(
                f"{target} stands beside other keywords, where references are JSON pointers, as #/$defs/name, and no "
                "part has an $id of its own"
            )
        return found

    def _refuse_entangled(self) -> NoReturn:
        self.refuse("allOf and references are too entangled to be followed: part them")

    def refuse(self, problem: str) -> NoReturn:
        """GrammarError for this schema."""
        raise GrammarError(f"The schema at {self._pointer or '/'}: {problem}.")


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
