"""What every chunk of an answer begins with, and what the answer says once beside its choices."""

from __future__ import annotations

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
        return {"warnings": list(self.warnings)} if self.warnings else {}
