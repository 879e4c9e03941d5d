"""When what happened to a request, on the one clock of a machine (time.monotonic()): measured, not judged. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from quire_engine.sequence import Emission


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """What befell one request in one step, beside what it emitted."""

    handle: int
    scheduled: float | None = None
    """When the step began in which it first ran; None if it had run before."""
    preemptions: int = 0
    """Times that choices of it gave way."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a request fared so far: moments in seconds of time.monotonic(), None where they have not come, and counts."""

    arrived: float
    """When it joined the line."""
    scheduled: float | None = None
    """When it left the line: its prompt began to be computed."""
    first_token: float | None = None
    last_token: float | None = None
    """The newest, while it is running."""
    finished: float | None = None
    """When its last choice ended, was aborted, or failed."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache."""
    generation_tokens: int = 0
    """Of all choices together."""
    preemptions: int = 0
    """Times that choices of it gave way to others, to be computed again later."""

    @property
    def queued(self) -> float | None:
        """Seconds in line."""
        return _between(self.arrived, self.scheduled)

    @property
    def prefill(self) -> float | None:
        """Seconds from the line to the first token."""
        return _between(self.scheduled, self.first_token)

    @property
    def to_first_token(self) -> float | None:
        """Seconds from arrival to the first token."""
        return _between(self.arrived, self.first_token)

    @property
    def decode(self) -> float | None:
        """Seconds from the first token to the last."""
        return _between(self.first_token, self.last_token)

    @property
    def per_token(self) -> float | None:
        """Mean seconds between tokens after the first; None with fewer than two."""
        spent = self.decode
        return None if spent is None or self.generation_tokens < 2 else spent / (self.generation_tokens - 1)

    @property
    def total(self) -> float | None:
        """Seconds from arrival to the end."""
        return _between(self.arrived, self.finished)


class Stopwatch:
    """Keeps the Timing of one request. Owned by its RequestOutputs."""

    __slots__ = (
        "_arrived",
        "_cached_tokens",
        "_finished",
        "_first_token",
        "_generation_tokens",
        "_last_token",
        "_preemptions",
        "_prompt_tokens",
        "_scheduled",
    )

    def __init__(self, arrived: float, prompt_tokens: int) -> None:
        self._arrived = arrived
        self._prompt_tokens = prompt_tokens
        self._scheduled: float | None = None
        self._first_token: float | None = None
        self._last_token: float | None = None
        self._finished: float | None = None
        self._cached_tokens = 0
        self._generation_tokens = 0
        self._preemptions = 0

    @property
    def timing(self) -> Timing:
        """As things stand."""
        return Timing(
            arrived=self._arrived,
            scheduled=self._scheduled,
            first_token=self._first_token,
            last_token=self._last_token,
            finished=self._finished,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generation_tokens=self._generation_tokens,
            preemptions=self._preemptions,
        )

    def progressed(self, progress: Progress) -> None:
        """Take in what the engine told. Who is resumed is scheduled once more: the first time counts."""
        if self._scheduled is None:
            self._scheduled = progress.scheduled
        self._preemptions += progress.preemptions

    def emitted(self, emission: Emission, now: float) -> float | None:
        """Count the tokens that came; returns how many seconds after the last ones, None with the first."""
        if emission.cached_tokens and not emission.index:
            self._cached_tokens = emission.cached_tokens
        gap = None if self._last_token is None else now - self._last_token
        if emission.token_ids:
            self._generation_tokens += len(emission.token_ids)
            if self._first_token is None:
                self._first_token = now
            self._last_token = now
        return gap

    def end(self, now: float) -> None:
        """It is over; only the first end counts."""
        self._finished = self._finished or now


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
