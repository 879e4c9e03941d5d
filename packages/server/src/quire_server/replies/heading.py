"""What every chunk of an answer begins with, and what the answer says once beside its choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from quire_engine.text.output import Output


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


def warnings_of(output: Output) -> tuple[str, ...]:
    """What the client should know of a delivery: that its prompt was computed although the prefix cache had it."""
    if output.prompt_logprobs is None or not output.bypassed_tokens:
        return ()
    told = f"{output.bypassed_tokens} tokens of the prompt were in the prefix cache and were computed again"
    return (f"prompt_logprobs: {told}, as log-probabilities are not cached.",)


def warnings_in(chunk: BaseModel) -> list[str]:
    """The warnings that a chunk carries."""
    found: list[str] = (chunk.model_extra or {}).get("warnings", [])
    return found


def said_once(warnings: Sequence[str]) -> dict[str, Any]:
    """The warnings as a field of an answer; no field when there are none."""
    return {"warnings": list(warnings)} if warnings else {}
