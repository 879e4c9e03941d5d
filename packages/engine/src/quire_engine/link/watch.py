"""Whether the process of an engine still comes along, judged by what it says. It knows no process and no clock.

Time is counted in ticks of whoever asks. So hours in which the whole machine slept, or both processes were stopped,
are not held against the engine; and while nobody asks, as nobody listens, no time passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire_engine.link.frames import Beat, Report, Told, Trial

TICK = 1.0
"""Seconds between two looks."""

SILENCE = 30.0
"""Seconds without a word after which a process is taken to be stopped: it says something each second."""


@dataclass(frozen=True, slots=True)
class Hung:
    """An engine of which nothing more is to be expected."""

    reason: str
    suspects: tuple[int, ...] = ()
    """The handles of the requests that it was at, where that may be why."""


class Watch:
    """Counts how long an engine's process has said nothing, and how long it has been at one turn of its loop."""

    def __init__(self, step_timeout: float) -> None:
        """`step_timeout` is in seconds; 0 is no limit, and silence is none of an engine's faults then either."""
        self._limit = step_timeout
        self._silent = 0.0
        self._busy = 0.0
        """Seconds since it was last seen to get on."""
        self._beat = Beat(None)

    def heard(self, message: Told) -> None:
        """It has said something."""
        self._silent = 0.0
        match message:
            case Beat(turn):
                if turn is None or turn != self._beat.turn:
                    self._busy = 0.0
                self._beat = message
            case Report() | Trial():
                self._busy = 0.0

    def tick(self) -> Hung | None:
        """Another TICK has passed; says so if it hangs."""
        self._silent += TICK
        self._busy += TICK if self._beat.turn is not None else 0.0
        if not self._limit:
            return None
        if self._silent > SILENCE:
            return Hung(f"The engine's process gave no sign of life for {SILENCE:g} seconds, and was ended.")
        if self._busy > self._limit:
            return Hung(
                f"The engine was at one step for more than {self._limit:g} seconds, and was ended. "
                "Where steps take so long, allow it: --engine-step-timeout.",
                self._beat.handles,
            )
        return None
