"""JSON Schemas as the grammar library reads them. It knows which of their keywords can be enforced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quire_engine.errors import GrammarError


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """Where JSON may have whitespace. It is bounded: a model that has lost its way would write nothing else."""

    item_separator: str = ", ?"
    """A regular expression of what stands between items, and between members."""
    key_separator: str = ": ?"
    """A regular expression of what stands between a key and its value."""

    @property
    def options(self) -> dict[str, Any]:
        """The same as the grammar library's options."""
        return {
            "item_separator": self.item_separator,
            "key_separator": self.key_separator,
            "whitespace_flexible": False,
        }


COMPACT = JsonStyle()
"""One space or none behind commas and colons: what models write on one line."""


def as_enforced(schema: Mapping[str, Any] | bool, style: JsonStyle, pointer: str = "") -> dict[str, Any]:
    """The schema as the grammar library enforces it. GrammarError, with the JSON pointer, for what it cannot."""
    if schema is False:
        raise GrammarError(f"The schema at {pointer or '/'} is false, which no JSON satisfies: leave it out.")
    keywords = dict(schema) if isinstance(schema, Mapping) else {}
    return {**keywords, "x-guidance": style.options}
