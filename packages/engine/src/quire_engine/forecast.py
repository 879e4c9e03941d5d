"""How long requests will wait, judged by how fast the engine was lately. Logic alone: it is fed, and has no clock.

A step's time is taken as a straight line of the tokens that it computes: what every step costs (weights are read
once), and what each token adds. Both are fitted to the steps that were seen, the newer ones counting more. Where too
little was seen, nothing is foretold, and nobody is refused for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from quire_engine.config import Decisions
from quire_engine.stats import Stats

FADING = 0.98
"""What an observation counts for after one more: the last fifty or so matter."""
ENOUGH = 8.0
"""Observations, faded ones counted as less, before anything is foretold."""


@dataclass(slots=True)
class Fit:
    """Least squares with fading memory: seconds of a step over tokens in it."""

    count: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def observe(self, tokens: float, seconds: float) -> None:
        """One step."""
        self.count = self.count * FADING + 1
        self.x = self.x * FADING + tokens
        self.y = self.y * FADING + seconds
        self.xx = self.xx * FADING + tokens * tokens
        self.xy = self.xy * FADING + tokens * seconds

    @property
    def line(self) -> tuple[float, float]:
        """Seconds that every step takes, and seconds that each token adds; neither below zero.

        Steps that were all alike say nothing about what a token adds: then all is put down to the step, which foretells
        rather too little than too much.
        """
        spread = self.count * self.xx - self.x * self.x
        if spread <= 1e-3 * self.count * self.xx:
            return self.y / self.count, 0.0
        slope = max((self.count * self.xy - self.x * self.y) / spread, 0.0)
        base = (self.y - slope * self.x) / self.count
        return (base, slope) if base >= 0 else (0.0, self.xy / self.xx)


@dataclass(slots=True)
class Rate:
    """Events in a second, over the last half minute or so of time that counted."""

    memory: float = 30.0
    events: float = 0.0
    seconds: float = 0.0

    def observe(self, events: float, seconds: float) -> None:
        """So many in this time."""
        kept = math.exp(-seconds / self.memory)
        self.events = self.events * kept + events
        self.seconds = self.seconds * kept + seconds

    @property
    def value(self) -> float:
        """0 while nothing was seen."""
        return self.events / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Forecast:
    """Foretells waits from the counters of an engine."""

    decisions: Decisions
    fit: Fit = field(default_factory=Fit)
    ends: Rate = field(default_factory=Rate)
    """How many choices end in a second in which somebody waits: each gives a seat to the next in line."""
    stats: Stats = field(default_factory=Stats)

    def observe(self, stats: Stats) -> None:
        """Take in how the engine stands after a step. Counters that fell are those of another engine."""
        before, self.stats = self.stats, stats
        steps, busy = stats.steps - before.steps, stats.busy_seconds - before.busy_seconds
        if steps <= 0 or busy <= 0:
            return
        self.fit.observe((stats.computed_tokens - before.computed_tokens) / steps, busy / steps)
        if before.waiting:
            self.ends.observe(sum(stats.finished.values()) - sum(before.finished.values()), busy)

    @property
    def is_known(self) -> bool:
        """Whether enough was seen."""
        return self.fit.count >= ENOUGH

    def step_seconds(self, tokens: float) -> float:
        """What a step with so many tokens takes."""
        base, slope = self.fit.line
        return base + slope * tokens

    def prefill(self, tokens: int) -> float:
        """Seconds to compute prompts of so many tokens, beside those that run; 0 while that is unknown."""
        if not self.is_known:
            return 0.0
        most = self.decisions.max_num_batched_tokens
        beside = min(self.stats.running, most - 1)
        steps, rest = divmod(tokens, most - beside)
        return steps * self.step_seconds(most) + (self.step_seconds(rest + beside) if rest else 0.0)

    def seats(self, ahead: int) -> float:
        """Seconds until a seat is free for somebody with so many ahead; 0 while that is unknown."""
        running, limit = self.stats.running, self.decisions.max_num_seqs
        if self.stats.waiting and running:
            limit = min(limit, running)  # the cache is full, not the seats
        missing = ahead + 1 - max(limit - running, 0)
        return missing / self.ends.value if missing > 0 and self.ends.value else 0.0

    def first_token(self, tokens: int, ahead: int, ahead_tokens: int) -> float:
        """Seconds to the first token of a prompt of so many tokens, behind so many requests with so many tokens."""
        return max(self.seats(ahead), self.prefill(ahead_tokens)) + self.prefill(tokens)

    def drain(self, requests: int, tokens: int) -> float:
        """Seconds in which so many requests, with so many tokens, leave the line; 1 while that is unknown."""
        leaving = max(requests / self.ends.value if self.ends.value else 0.0, self.prefill(tokens))
        return leaving or 1.0
