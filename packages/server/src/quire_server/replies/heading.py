"""What every chunk of an answer begins with, and what the answer says once beside its choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Heading:
    """The answer's identity."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    """The name the model is served under."""
    fingerprint: str
    """Names the server's version and what it runs: answers with equal ones can be compared."""
    warnings: tuple[str, ...] = ()
    """What the client should know about its request, a sentence each."""

    @property
    def on_chunks(self) -> dict[str, Any]:
        """The fields that every chunk carries."""
        return {"id": self.id, "created": self.created, "model": self.model}

    @property
    def once(self) -> dict[str, Any]:
        """The fields that an answer carries once, when there is something to say."""
        return said_once(self.warnings)


def said_once(warnings: Sequence[str]) -> dict[str, Any]:
    """The warnings as a field of an answer; no field when there are none."""
    return {"warnings": list(warnings)} if warnings else {}
