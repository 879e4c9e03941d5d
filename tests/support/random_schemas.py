"""JSON Schemas drawn at random: of keywords that can be enforced, within one another, many of them contradictory."""

from __future__ import annotations

import random
from typing import Any

PATTERNS = ("^[a-z]+$", "[0-9]", "a|b", "^(x|yz){1,3}$", r"\d{2}", "^.{2,4}$", "[^a]", r'["\\]')
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "duration", "uri")
VALUES = (1, 2.5, "a", "é", None, True, [1], {"a": 1}, "x\ny", 0, "")


def random_schema(rng: random.Random) -> dict[str, Any]:
    """A schema with two more under $defs, which may refer to each other."""
    return {**_schema(rng, 0), "$defs": {"p": _schema(rng, 1), "q": _schema(rng, 1)}}


def _schema(rng: random.Random, depth: int) -> dict[str, Any]:
    leaves = (_integer, _number, _text, _enum, lambda *_: {"type": "boolean"}, lambda *_: {})
    branches = (_array, _object, _object, _choice, _all, _reference)
    return rng.choice(leaves if depth > 2 else leaves + branches)(rng, depth)


def _integer(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(-50, 50)
    keywords = {"minimum": least, "maximum": least + rng.randint(0, 100), "multipleOf": rng.randint(1, 9)}
    return {"type": "integer", **_some(rng, keywords)}


def _number(rng: random.Random, depth: int) -> dict[str, Any]:
    least, most = rng.choice(("minimum", "exclusiveMinimum")), rng.choice(("maximum", "exclusiveMaximum"))
    bounds = {least: round(rng.uniform(-5, 5), 1), most: round(rng.uniform(5, 15), 2)}
    return {"type": "number", **_some(rng, bounds)}


def _text(rng: random.Random, depth: int) -> dict[str, Any]:
    if rng.random() < 0.2:
        return {"type": "string", "format": rng.choice(FORMATS)}
    least = rng.randint(0, 3)
    keywords = {"minLength": least, "maxLength": least + rng.randint(0, 6), "pattern": rng.choice(PATTERNS)}
    return {"type": "string", **_some(rng, keywords)}


def _enum(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"enum": rng.sample(VALUES, rng.randint(1, 4))}


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    keywords = {
        "items": _schema(rng, depth + 1),
        "prefixItems": [_schema(rng, depth + 1) for _ in range(rng.randint(1, 2))],
        "minItems": least,
        "maxItems": least + rng.randint(0, 2),
    }
    return {"type": "array", **_some(rng, keywords)}


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample("abcde", rng.randint(0, 3))
    keywords = {
        "required": rng.sample(names, rng.randint(0, len(names))),
        "additionalProperties": rng.choice((False, _schema(rng, depth + 1))),
    }
    rare = {
        "patternProperties": {rng.choice(("^a", "b", "^[c-f]$")): _schema(rng, depth + 1)},
        "minProperties": rng.randint(0, 3),
        "maxProperties": rng.randint(0, 3),
    }
    properties = {name: _schema(rng, depth + 1) for name in names}
    return {"type": "object", "properties": properties, **_some(rng, keywords), **_some(rng, rare, share=0.1)}


def _choice(rng: random.Random, depth: int) -> dict[str, Any]:
    cases = [_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return {rng.choice(("anyOf", "anyOf", "oneOf")): cases, **_beside(rng, depth)}


def _all(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"allOf": [_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]}


def _reference(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{rng.choice('pq')}", **_beside(rng, depth)}


def _beside(rng: random.Random, depth: int) -> dict[str, Any]:
    """Keywords of another schema, at times."""
    return _schema(rng, depth + 2) if rng.random() < 0.3 else {}


def _some(rng: random.Random, keywords: dict[str, Any], share: float = 0.4) -> dict[str, Any]:
    return {keyword: value for keyword, value in keywords.items() if rng.random() < share}
