"""Twice as much load as a real server can carry, with deadlines: who is let in must be served in time.

usage: python -m benchmarks.overload [--shape 0.6b] [--seconds 120] [--times 2] [--within 8] [--seats 16] [--json auto]

First the server is kept full by clients that wait for their answers: that is its capacity. Then requests come at random
moments, so many times as fast, whatever becomes of those before (open loop), each with a deadline. What must hold: of
those that are let in, at least 95 % have their whole answer in time; these bring at least 95 % of the tokens a second
that the server has when it is full; a refusal takes less than 100 ms; memory does not grow. Exit status 1 and the
reasons if anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.bench import Row, arguments, finish, median
from benchmarks.servers import Server, quire
from benchmarks.shapes import SHAPES, checkpoint
from benchmarks.streams import Told, stream

MODEL = "served"
EMBEDDED = "embedded"
"""The model that comes with the package: so small that front end and clients need a third of the machine for it."""
VOCABULARY = range(10, 600)
GROWTH = 32 * 2**20
"""Bytes that the server may grow by, once it has seen a quarter of the load."""
KEPT, SPEED, REFUSAL = 0.95, 0.95, 0.1
"""What must hold: of those who were let in, and of the speed; seconds of a refusal, for 99 of 100."""


@dataclass
class Answers:
    """What came back."""

    whole: list[Told] = field(default_factory=list)
    late: int = 0
    refusals: list[float] = field(default_factory=list)
    """Seconds of each."""
    strange: list[str] = field(default_factory=list)

    def take(self, told: Told, asked: int) -> None:
        """Judge one answer; `asked` tokens make it whole."""
        if told.status == 429:
            self.refusals.append(time.perf_counter() - told.began)
        elif told.status == 504 or told.tokens < asked:
            self.late += 1
        elif told.status == 200 and told.complete:
            self.whole.append(told)
        else:
            self.strange.append(f"{told.status}: {told.events[-1:]}")

    def rate(self, began: float, ended: float) -> float:
        """Tokens of whole answers in a second of this time; by when each came, as answers end in waves."""
        within = (
            told.tokens * sum(began <= when <= ended for when in told.arrivals) / len(told.arrivals)
            for told in self.whole
        )
        return sum(within) / (ended - began)


@dataclass(frozen=True)
class Mix:
    """What is asked for."""

    prompt: int
    answer: int
    draw: Random

    async def ask(self, address: str, answers: Answers, within: float | None) -> None:
        """One request and its answer."""
        prompt = self.draw.choices(VOCABULARY, k=self.prompt)
        body: dict[str, Any] = {"model": MODEL, "prompt": prompt, "max_tokens": self.answer}
        body |= {"temperature": 0, "ignore_eos": True}
        headers = {} if within is None else {"x-request-timeout": f"{within:g}"}
        try:
            answers.take(await stream(address, body, headers=headers), self.answer)
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            answers.strange.append(repr(error))


async def fill(address: str, mix: Mix, clients: int, seconds: float) -> tuple[float, float]:
    """Keep the server full; requests and tokens a second, once it is."""
    answers, began = Answers(), time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < seconds:
            await mix.ask(address, answers, None)

    await asyncio.gather(*(client() for _ in range(clients)))
    tokens = answers.rate(began + seconds / 4, began + seconds)
    return tokens / mix.answer, tokens


async def flood(address: str, mix: Mix, rate: float, seconds: float, within: float, look: Callable[[], float]) -> Flood:
    """Send requests at random moments; `look` says how much memory the server has."""
    answers, began, memory = Answers(), time.perf_counter(), [0.0]
    under_way: set[asyncio.Task[None]] = set()
    moment = began
    while (now := time.perf_counter()) - began < seconds:
        if now - began > seconds / 4 and not memory[0]:
            memory[0] = look()
        if moment > now:
            await asyncio.sleep(moment - now)
        moment += mix.draw.expovariate(rate)
        under_way.add(task := asyncio.create_task(mix.ask(address, answers, within)))
        task.add_done_callback(under_way.discard)
    ended = time.perf_counter()
    await asyncio.gather(*under_way)
    return Flood(answers, answers.rate(began + within, ended), memory[0], look())


@dataclass(frozen=True)
class Flood:
    """What became of the load."""

    answers: Answers
    speed: float
    """Tokens of whole answers in a second, once the first deadlines have passed."""
    before: float
    after: float
    """Bytes of the server after a quarter of the load, and after all."""

    @property
    def kept(self) -> float:
        """The share of those let in that had their whole answer in time."""
        whole = len(self.answers.whole)
        return whole / max(whole + self.answers.late, 1)

    def problems(self, capacity: float) -> list[str]:
        """What does not hold."""
        refusals = sorted(self.answers.refusals)
        slowest = refusals[int(0.99 * len(refusals))] if refusals else 0.0
        checks = (
            (self.kept < KEPT, f"{self.kept:.1%} of those let in were served in time, not {KEPT:.0%}"),
            (self.speed < SPEED * capacity, f"{self.speed:.0f} tokens/s in time, of {capacity:.0f} that it can do"),
            (slowest > REFUSAL, f"a refusal took {1000 * slowest:.0f} ms"),
            (self.after - self.before > GROWTH, f"memory grew by {(self.after - self.before) / 2**20:.0f} MiB"),
            (bool(self.answers.strange), f"strange answers: {self.answers.strange[:3]}"),
        )
        return [reason for holds_not, reason in checks if holds_not]

    def rows(self, capacity: float) -> list[Row]:
        """As a table."""
        refusals = sorted(self.answers.refusals)
        told = [
            Row({"what": "full, without deadlines"}, "tok/s", capacity),
            Row({"what": "of whole answers in time"}, "tok/s", self.speed, goal=SPEED * capacity),
            Row({"what": "served in time, of those let in"}, "share", self.kept, goal=KEPT),
            Row({"what": "whole"}, "requests", float(len(self.answers.whole))),
            Row({"what": "late"}, "requests", float(self.answers.late)),
            Row({"what": "refused"}, "requests", float(len(refusals))),
        ]
        if refusals:
            slow = refusals[int(0.99 * len(refusals))]
            told += [
                Row({"what": "a refusal, median"}, "ms", 1000 * median(refusals)),
                Row({"what": "a refusal, 99 of 100"}, "ms", 1000 * slow, goal=1000 * REFUSAL),
            ]
        growth = (self.after - self.before) / 2**20
        return [*told, Row({"what": "memory grew by"}, "MiB", growth, goal=GROWTH / 2**20)]


def model(options: argparse.Namespace) -> tuple[str, ...]:
    """The flags that have the model served, with little room: all of it is in use before memory is looked at."""
    length = options.prompt + options.answer
    if options.shape == EMBEDDED:
        return ("--max-model-len", str(length))
    shape = SHAPES[options.shape]
    room = int(2 * options.seats * shape.cache_bytes(length))
    folder = str(checkpoint(shape, options.cache))
    return ("--model", folder, "--max-model-len", str(length), "--kv-cache-memory-bytes", str(room))


def main() -> None:
    """Put the load on, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--shape", choices=(EMBEDDED, *SHAPES), default="0.6b", help="the model that is served")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--times", type=float, default=2, help="load, as a multiple of the capacity")
    parser.add_argument("--within", type=float, default=8, help="seconds to the deadline")
    parser.add_argument("--seats", type=int, default=16, help="sequences that run together at most")
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--answer", type=int, default=32, help="tokens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    flags = ("--max-num-seqs", str(options.seats), "--served-model-name", MODEL)
    command = quire(*flags, *model(options))
    mix = Mix(options.prompt, options.answer, Random(options.seed))
    with Server(command, {"OMP_NUM_THREADS": str(options.threads)}) as server:
        address = server.address
        rate, capacity = asyncio.run(fill(address, mix, 2 * options.seats, min(30.0, options.seconds)))
        load = flood(address, mix, options.times * rate, options.seconds, options.within, server.memory)
        flooded = asyncio.run(load)
    finish("overload", options, flooded.rows(capacity), rate=options.times * rate)
    if problems := flooded.problems(capacity):
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
