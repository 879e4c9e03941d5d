"""How long requests will wait and take, judged by how fast the engine was lately. It is fed, and has no clock.

A step's time is taken as a straight line of the tokens that it computes: what every step costs (weights are read
once), and what each token adds. Both are fitted to the steps that were seen, the newer ones counting more. Where too
little was seen, nothing is foretold, and nobody is refused for it; of steps far longer than those that were seen,
rather too little than too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from quire_engine.config import Decisions
from quire_engine.stats import Stats
from quire_protocol import SamplingParams

RECENT, FADING = 2.0, 0.98
"""Seconds of work after which what a step took counts for a third, and the least that it counts for after one more:
the last two seconds matter, or the last fifty steps where these took longer."""
ENOUGH = 8.0
"""Steps, faded ones counted as less, before anything is foretold."""
REACH = 4.0
"""Times as uncertain as one step by itself that a step may be foretold; of longer ones nothing is known."""
SECONDS, ANSWERS, PROMPTS = 30.0, 50.0, 200_000.0
"""Seconds of work, answers, and tokens of prompts after which what was counted before has faded to a third."""


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
        kept = max(math.exp(-seconds / RECENT), FADING)
        self.count = self.count * kept + 1
        self.x = self.x * kept + tokens
        self.y = self.y * kept + seconds
        self.xx = self.xx * kept + tokens * tokens
        self.xy = self.xy * kept + tokens * seconds

    @property
    def line(self) -> tuple[float, float]:
        """Seconds that every step takes, and seconds that each token adds; neither below zero.

        Steps that were all alike say nothing about what a token adds: then all is put down to the step, which foretells
        rather too little than too much.
        """
        spread = self.count * self.xx - self.x * self.x
        if spread <= 1e-3 * self.count * self.xx:
            return self.mean, 0.0
        slope = max((self.count * self.xy - self.x * self.y) / spread, 0.0)
        base = (self.y - slope * self.x) / self.count
        return (base, slope) if base >= 0 else (0.0, self.xy / self.xx)

    def step(self, tokens: float) -> float:
        """Seconds of a step with so many tokens. Those that are out of reach add nothing."""
        base, slope = self.line
        return base + slope * min(tokens, self.reach)

    @property
    def reach(self) -> float:
        """Tokens up to which the line holds: the farther from those that were seen, the more does chance decide."""
        if not self.count:
            return 0.0
        mean = self.x / self.count
        return mean + REACH * math.sqrt(max(self.xx - self.x * mean, 0.0))

    @property
    def mean(self) -> float:
        """Seconds of a step; 0 while none was seen."""
        return self.y / self.count if self.count else 0.0


@dataclass(slots=True)
class Faded:
    """A ratio of two counts, of which the older parts matter less and less: a third, once `memory` more is below."""

    memory: float
    above: float = 0.0
    below: float = 0.0

    def observe(self, above: float, below: float) -> None:
        """What was counted since."""
        kept = math.exp(-below / self.memory)
        self.above, self.below = self.above * kept + above, self.below * kept + below

    @property
    def value(self) -> float:
        """0 while nothing was counted."""
        return self.above / self.below if self.below else 0.0


class Ahead(NamedTuple):
    """Those who are served before somebody."""

    requests: int
    prompts: int
    """Tokens of their prompts."""
    answers: float
    """Tokens that their answers will have, as far as that is known."""


@dataclass(slots=True)
class Forecast:
    """Foretells times, in seconds, from the counters of an engine. What is not known is 0."""

    decisions: Decisions
    fit: Fit = field(default_factory=Fit)
    speed: Faded = field(default_factory=lambda: Faded(SECONDS))
    """Tokens of answers in a second in which somebody waits, so that all seats are taken."""
    length: Faded = field(default_factory=lambda: Faded(ANSWERS))
    """Tokens of an answer."""
    cached: Faded = field(default_factory=lambda: Faded(PROMPTS))
    """Of a prompt's tokens, the share that the prefix cache has."""
    stats: Stats = field(default_factory=Stats)
    """The newest."""

    def observe(self, stats: Stats) -> None:
        """Take in how the engine stands after a step. The very first is slow in ways in which no other is."""
        before, self.stats = self.stats, stats
        steps, busy = stats.steps - before.steps, stats.busy_seconds - before.busy_seconds
        if steps <= 0 or busy <= 0:
            return
        found = stats.prefix_cache_hits - before.prefix_cache_hits
        self.cached.observe(found, stats.prefix_cache_queries - before.prefix_cache_queries)
        if before.steps:
            self.fit.observe((stats.computed_tokens - before.computed_tokens) / steps, busy / steps)
        if before.waiting:
            self.speed.observe(stats.generation_tokens - before.generation_tokens, busy)

    def answered(self, tokens: int, answers: int) -> None:
        """Take in how long answers were that are as long as they were to be."""
        self.length.observe(tokens, answers)

    @property
    def is_known(self) -> bool:
        """Whether enough was seen."""
        return self.fit.count >= ENOUGH

    def step(self, tokens: float) -> float:
        """A step with so many tokens."""
        return self.fit.step(tokens)

    def prefill(self, tokens: int) -> float:
        """Prompts of so many tokens, of which the cache has its usual share, computed beside those that run."""
        if not self.is_known:
            return 0.0
        most = self.decisions.max_num_batched_tokens
        beside = min(self.stats.running, most - 1)
        steps, rest = divmod(math.ceil(tokens * (1 - self.cached.value)), most - beside)
        return steps * self.step(most) + (self.step(rest + beside) if rest else 0.0)

    def length_of(self, params: SamplingParams) -> float:
        """How many tokens a request's answers will have together: as usual, within what was asked for."""
        most = math.inf if params.max_tokens is None else params.max_tokens
        usual = most if params.ignore_eos and params.max_tokens is not None else self.length.value
        return params.n * max(min(usual, most), params.min_tokens)

    def seat(self, ahead: int, answers: float, free: int = 0) -> float:
        """Until there is a seat behind so many requests whose answers have so many tokens.

        Those who run are replaced as they end, so that what is left of their answers stays the same. `free` more seats
        are to be had than nobody sits on.
        """
        running, limit = self.stats.running, self.decisions.max_num_seqs
        if self.stats.waiting and running:
            limit = min(limit, running)  # the cache is full, not the seats
        missing = ahead + 1 - max(limit - running, 0) - free
        if missing <= 0 or not self.speed.value:
            return 0.0
        return (answers * (missing - 1) / max(ahead, 1) + self.length.value) / self.speed.value

    def first_token(self, tokens: int, ahead: Ahead, free: int = 0) -> float:
        """The first token of a prompt of so many tokens, behind all these."""
        return max(self.seat(ahead.requests, ahead.answers, free), self.prefill(ahead.prompts)) + self.prefill(tokens)

    def decode(self, length: float) -> float:
        """From the first token of an answer to its last."""
        if not self.is_known:
            return 0.0
        beside = self.step(self.stats.running + 1)
        return max(length - 1, 0.0) * (max(beside, self.fit.mean) if self.stats.waiting else beside)

    def drain(self, tokens: int) -> float:
        """Until one more has left the line, whose prompt has so many tokens; 1 while that is unknown."""
        return max(self.length.value / self.speed.value if self.speed.value else 0.0, self.prefill(tokens)) or 1.0
