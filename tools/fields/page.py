"""docs/reference/fields.md, written from the schemas, their bounds and the tables of what is refused and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from tools.fields.conditions import CONDITIONS
from tools.fields.probes import ROUTES

import quire_protocol
from quire_protocol import DEFAULT_LIMITS, SamplingParams
from quire_protocol.base import field_docs
from quire_server.refusals import REFUSALS, REPORTS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fields.md"

OPENING = """# The fields of a generating request

Written by `python -m tools.fields --docs`; a test keeps it current, and `nox -s fields` tries every field on a server.
A field takes effect, is refused with a 400 that names it, or is reported in the answer's `warnings`. Bounds are those
of the schema and of `quire_protocol.limits`; ids and lengths are also held against the model that is served.
"""

NUMBERS = {"integer", "number"}

SAME_BOUNDS = {"max_completion_tokens": "max_tokens", "top_logprobs": "logprobs"}
"""Fields that become one of SamplingParams under another name."""


def page() -> str:
    """The whole page."""
    parts = [OPENING]
    for name, route in ROUTES.items():
        parts.append(f"## {name}: `POST {route}`\n\n{request_table(getattr(quire_protocol, name))}")
    parts.append(f"## SamplingParams: `sampling_params` of GenerateRequest\n\n{sampling_table()}")
    return "\n".join(parts)


def request_table(model: type[BaseModel]) -> str:
    """One line for each field of a request."""
    docs, schema = field_docs(model), model.model_json_schema()["properties"]
    rows = (
        (
            f"`{name}`",
            default_of(field),
            docs[name],
            bounds(name, schema[field.alias or name]),
            conditions(model.__name__, name),
        )
        for name, field in model.model_fields.items()
    )
    return table(("field", "default", "what it does", "bounds", "conditions"), rows)


def sampling_table() -> str:
    """One line for each field of SamplingParams."""
    docs, schema = field_docs(SamplingParams), sampling_schema()
    rows = (
        (
            f"`{each.name}`",
            written(schema[each.name].get("default")),
            docs[each.name],
            bounds(each.name, schema[each.name]),
        )
        for each in fields(SamplingParams)
        if each.name in schema
    )
    return table(("field", "default", "what it does", "bounds"), rows)


def sampling_schema() -> dict[str, Any]:
    """The properties of SamplingParams' JSON Schema."""
    properties: dict[str, Any] = TypeAdapter(SamplingParams).json_schema()["properties"]
    return properties


def bounds(name: str, schema: Mapping[str, Any]) -> str:
    """The narrowest bounds that are written down, in words."""
    narrow = {**extremes(sampling_schema().get(SAME_BOUNDS.get(name, name), {})), **extremes(schema)}
    net, types = DEFAULT_LIMITS.bounds.get(name), types_of(schema)
    words = []
    if narrow and types & NUMBERS:
        words.append(in_words({"maximum": net.high, **narrow} if net is not None and net.high < 2**31 - 1 else narrow))
    elif net is not None and net.low < net.high and types & NUMBERS:
        words.append(f"{shown(net.low)} to {shown(net.high)}")
    if net is not None and 0 < net.text < inf and "string" in types:
        words.append(f"{shown(net.text)} characters")
    if net is not None and net.items and types & {"array", "object"}:
        words.append(f"{shown(net.items)} entries")
    return ", ".join(words)


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a value may have, within lists too."""
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else [])]
    named = {str(schema["type"])} if "type" in schema else {"object"} if "$ref" in schema else set()
    return named.union(*(types_of(part) for part in inner))


def extremes(schema: Mapping[str, Any]) -> dict[str, float]:
    """The smallest and largest number that a schema allows, whether it is optional or not."""
    found: dict[str, float] = {}
    for part in (schema, *schema.get("anyOf", ())):
        found |= {key: part[key] for key in ("minimum", "exclusiveMinimum", "maximum") if key in part}
    return found


def in_words(found: Mapping[str, float]) -> str:
    """`0 to 2`, `above 0 to 1`, `at least 1`."""
    low = f"above {shown(found['exclusiveMinimum'])}" if "exclusiveMinimum" in found else shown(found.get("minimum", 0))
    if "maximum" in found:
        return f"{low} to {shown(found['maximum'])}"
    return low if low.startswith("above") else f"at least {low}"


def shown(number: float) -> str:
    """A number as one says it."""
    for power in (31, 63):
        if abs(number) in (2**power, 2**power - 1):
            return f"{'-' if number < 0 else ''}2^{power}{'' if number < 0 else ' - 1'}"
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def conditions(request: str, name: str) -> str:
    """What the field needs and excludes, and what becomes of it today if it is not honoured."""
    told = [each.says for each in CONDITIONS if request in each.requests and each.field == name]
    if reason := REFUSALS.get((request, name)):
        told.append(f"**refused**: {reason}")
    if reason := REPORTS.get((request, name)):
        told.append(f"**reported**: {reason}")
    return "; ".join(told)


def default_of(field: FieldInfo) -> str:
    """What stands for an absent field."""
    if field.is_required():
        return "required"
    return (
        "random" if field.default_factory not in (None, list) else written(field.get_default(call_default_factory=True))
    )


def written(value: Any) -> str:
    """A value as JSON; nothing for null, which is said by most fields."""
    return "" if value in (None, MISSING) else f"`{json.dumps(value, default=list)}`"


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
