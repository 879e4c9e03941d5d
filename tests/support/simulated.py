"""A server in simulated time: the gate and the engine as they are, and a runner that computes nothing but its duration.

What is measured on it depends on no machine: a step takes what `Pace` says, on a clock that nothing else moves.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from statistics import median
from typing import Any

from tests.support.requests import generate_request
from tests.support.scripted import Done, scripted_decisions

from quire_engine.engine import Engine
from quire_engine.errors import Overloaded
from quire_engine.gate import Gate
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_engine.sequence import Submission, Terms


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Pace:
    """How long a step takes: as on a machine where weights are read once for each."""

    step: float = 0.020
    token: float = 0.0004
    slower: Callable[[float], float] = lambda now: 1.0
    """Times as long that all takes at a moment, on a machine that is not its own master."""


class PacedRunner:
    """Draws the same token again and again, and lets the clock go on meanwhile."""

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self.clock = clock
        self.pace = pace

    def run(self, batch: Batch) -> Done:
        pace = self.pace
        self.clock.now += (pace.step + pace.token * batch.tokens) * pace.slower(self.clock.now)
        return Done([SpanResult(5 if span.samples else None) for span in batch.spans])

    def warm_up(self) -> None:
        pass

    def improve(self) -> bool:
        return False

    def mend(self, blocks: list[int]) -> list[int]:
        return []

    def close(self) -> None:
        pass


@dataclass
class Fate:
    """What became of one request."""

    tenant: str
    arrived: float
    refused: type[Overloaded] | None = None
    first_token: float | None = None
    finished: float | None = None
    reason: str | None = None
    tokens: int = 0


@dataclass
class Simulation:
    """Requests in, fates out. `decisions` are those of scripted engines."""

    decisions: dict[str, Any] = field(default_factory=dict)
    pace: Pace = Pace()

    def __post_init__(self) -> None:
        self.clock = Clock()
        settled = scripted_decisions(
            **{"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_blocks": 4096, "block_size": 16}
            | {"max_model_len": 1024}
            | self.decisions
        )
        self.engine = Engine(PacedRunner(self.clock, self.pace), settled, clock=self.clock)  # type: ignore[arg-type]
        self.gate = Gate(settled)
        self.fates: list[Fate] = []
        self._draw = Random(7)

    def ask(self, prompt: int, answer: int, tenant: str = "", within: float | None = None) -> Fate:
        """A request with so many tokens in its prompt and its answer, and a deadline in so many seconds."""
        handle, now = len(self.fates), self.clock.now
        fate = Fate(tenant, now)
        self.fates.append(fate)
        request = generate_request(self._draw.choices(range(1, 90), k=prompt), max_tokens=answer)
        terms = Terms(tenant, deadline=None if within is None else now + within)
        try:
            self.gate.join(handle, request, terms, now)
        except Overloaded as refusal:
            fate.refused = type(refusal)
        else:
            self.engine.add(Submission.of(handle, request, terms))
        return fate

    def step(self) -> list[Fate]:
        """One step; those who ended in it. Without work, a hundredth of a second passes."""
        if not self.engine.has_work:
            self.clock.now += 0.01
        ended = []
        emissions = self.engine.step()
        for progress in self.engine.progress:
            self.gate.began(progress.handle)
        self.gate.observe(self.engine.stats())
        for emission in emissions:
            fate = self.fates[emission.handle]
            fate.tokens += len(emission.token_ids)
            if emission.token_ids and fate.first_token is None:
                fate.first_token = self.clock.now
            if emission.finish_reason is not None:
                fate.finished, fate.reason = self.clock.now, emission.finish_reason
                self.gate.ended(emission.handle, self.clock.now, [emission.finish_reason], fate.tokens)
                ended.append(fate)
        return ended

    @property
    def kept(self) -> float:
        """Of those who were let in, the share who had their whole answer in time."""
        ended = [fate.reason for fate in self.fates if fate.reason is not None]
        return ended.count("length") / len(ended)

    def tokens(self, until: float) -> int:
        """Of all answers that were whole by then."""
        return sum(f.tokens for f in self.fates if f.reason == "length" and (f.finished or 0) <= until)


@dataclass(frozen=True)
class Load:
    """Requests that arrive whatever becomes of those before: so many a second, at random moments (open loop)."""

    rate: float
    within: float | None = None
    prompt: tuple[int, int] = (32, 160)
    answer: tuple[int, int] = (16, 96)
    seed: int = 3

    def put_on(self, simulation: Simulation, seconds: float) -> None:
        """Until so many seconds have passed, and then until all have ended."""
        draw = Random(self.seed)
        arrivals: deque[float] = deque()
        moment = 0.0
        while moment < seconds:
            moment += draw.expovariate(self.rate)
            arrivals.append(moment)
        while arrivals or simulation.engine.has_work:
            while arrivals and arrivals[0] <= simulation.clock.now:
                arrivals.popleft()
                simulation.ask(draw.randint(*self.prompt), draw.randint(*self.answer), within=self.within)
            simulation.step()


@dataclass(frozen=True)
class Crowd:
    """Clients of several tenants, who ask again some time after they were answered (closed loop)."""

    clients: dict[str, int]
    prompt: int = 256
    answer: tuple[int, int] = (48, 144)
    pause: float = 0.02
    """Seconds, on average."""

    def meet(self, simulation: Simulation, seconds: float) -> Shares:
        """Let them ask for so long; the first fifth does not count."""
        draw, order = Random(1), count()
        due = [(draw.random(), next(order), tenant) for tenant, n in self.clients.items() for _ in range(n)]
        heapq.heapify(due)
        shares = Shares(seconds / 5, seconds)
        while simulation.clock.now < seconds:
            while due and due[0][0] <= simulation.clock.now:
                moment, _, tenant = heapq.heappop(due)
                simulation.ask(self.prompt, draw.randint(*self.answer), tenant).arrived = moment
            for fate in simulation.step():
                shares.take(fate)
                pause = draw.expovariate(1 / self.pause)
                heapq.heappush(due, (simulation.clock.now + pause, next(order), fate.tenant))
        return shares


@dataclass
class Shares:
    """What tenants were given between two moments."""

    began: float
    ended: float
    tokens: Counter[str] = field(default_factory=Counter)
    waits: dict[str, list[float]] = field(default_factory=dict)
    """By tenant: seconds from asking to the first token."""

    def take(self, fate: Fate) -> None:
        """Count one request that has ended."""
        assert fate.finished is not None
        if self.began <= fate.finished <= self.ended:
            self.tokens[fate.tenant] += fate.tokens
        if fate.first_token is not None and fate.arrived >= self.began:
            self.waits.setdefault(fate.tenant, []).append(fate.first_token - fate.arrived)

    @property
    def jain(self) -> float:
        """1 where all tenants have the same, 1 / n where one of n has all (Jain et al. 1984)."""
        shares = list(self.tokens.values())
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))

    @property
    def speed(self) -> float:
        """Tokens a second, of all tenants."""
        return self.tokens.total() / (self.ended - self.began)

    def wait(self, tenants: Iterable[str]) -> float:
        """Median seconds to the first token of these tenants' requests."""
        return median(wait for tenant in tenants for wait in self.waits[tenant])
