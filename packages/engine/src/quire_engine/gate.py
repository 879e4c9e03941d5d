"""Who may join the waiting line now: as many as it holds, and nobody whose deadline is lost. No torch.

It stands above the link, where a refusal costs the engine nothing, and counts who joined and has not begun to run. It
knows neither what a request asks for nor what the engine computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire_engine.config import Decisions
from quire_engine.errors import DeadlineUnreachable, Overloaded
from quire_engine.forecast import Forecast
from quire_engine.sequence import Terms
from quire_engine.stats import Stats

LONGEST_WAIT = 600.0
"""Seconds after which, at the latest, who was refused is told to come back."""


@dataclass(frozen=True, slots=True)
class Place:
    """A request's place in line."""

    tokens: int
    """Of its prompt."""


class Gate:
    """Counts the line, and lets requests in or refuses them. Owned by the AsyncEngine.

    `now` is on the deadlines' clock.
    """

    def __init__(self, decisions: Decisions) -> None:
        self.max_requests = decisions.max_num_queued_reqs
        self.max_tokens = decisions.max_num_queued_tokens
        self.forecast = Forecast(decisions)
        self.queued_tokens = 0
        self._line: dict[int, Place] = {}
        self._promised = 0.0
        """When the last of those who were refused was told to come back."""

    @property
    def queued(self) -> int:
        """Requests in line."""
        return len(self._line)

    def check(self, tokens: int, terms: Terms, now: float) -> None:
        """Overloaded if the line is full, DeadlineUnreachable if an answer would come too late."""
        self._check_room(tokens, now)
        if terms.deadline is not None:
            self._check_deadline(tokens, terms.deadline - now)

    def join(self, handle: int, tokens: int) -> None:
        """A request that passed check() waits from now on."""
        self._line[handle] = Place(tokens)
        self.queued_tokens += tokens

    def leave(self, handle: int) -> None:
        """It waits no more: it runs, or has ended. Who has left before is passed over."""
        place = self._line.pop(handle, None)
        if place is not None:
            self.queued_tokens -= place.tokens

    def observe(self, stats: Stats) -> None:
        """Take in how the engine stands after a step."""
        self.forecast.observe(stats)

    def _check_room(self, tokens: int, now: float) -> None:
        if self.queued >= self.max_requests:
            full = f"{self.queued} requests are waiting, and the line holds {self.max_requests} (max_num_queued_reqs)"
        elif self._line and self.queued_tokens + tokens > self.max_tokens:
            full = (
                f"The prompts of {self.queued} waiting requests have {self.queued_tokens} tokens, this one has "
                f"{tokens}, and the line holds {self.max_tokens} (max_num_queued_tokens)"
            )
        else:
            return
        wait = self._promise(tokens, now)
        raise Overloaded(f"{full}. Nothing was computed; try again in {wait:.0f} s.", retry_after=wait)

    def _promise(self, tokens: int, now: float) -> float:
        """Seconds until there should be room: each of those who are refused is told a moment of its own.

        Told the same one, all would come back at once, and all but one be refused again.
        """
        self._promised = max(self._promised, now) + self.forecast.drain(1, tokens)
        wait = min(max(self._promised - now, 1.0), LONGEST_WAIT)
        self._promised = min(self._promised, now + LONGEST_WAIT)
        return wait

    def _check_deadline(self, tokens: int, left: float) -> None:
        if left <= 0:
            raise DeadlineUnreachable(
                f"The deadline passed {-left:.3f} s before the request came; nothing was computed."
            )
        first = self.forecast.first_token(tokens, self.queued, self.queued_tokens)
        if first > left:
            line = f"with {self.queued} requests in line"
            problem = (
                f"The first token would come after about {first:.1f} s {line}, and the deadline is in {left:.1f} s"
            )
            raise DeadlineUnreachable(f"{problem}. Nothing was computed; allow more time.", retry_after=first - left)
