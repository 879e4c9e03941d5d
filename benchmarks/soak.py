"""A real server under random load: requests of random lengths at random times, of which many are cancelled.

usage: python -m benchmarks.soak [--seconds 120] [--batch 32] [--rate 8] [--requests N] [--json auto]

The cache is too small for the batch, so that sequences are preempted all the time. What must hold: every answer has the
tokens that it was asked for, or the error that it deserves; one greedy request, asked again and again among the others
(in float32), always has the same text; afterwards nothing is left behind, so that one request may take the whole cache;
memory does not grow. A rate of 0 sends a request whenever there is room for one; --requests ends earlier. Exit status 1
and the reasons if anything does not hold.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.bench import Row, arguments, finish
from benchmarks.servers import Server, quire
from benchmarks.streams import model_of, stream

CONTEXT = 1024
"""Tokens of the longest sequence, and of the whole cache."""
BYTES_PER_TOKEN = 6 * 2 * 2 * 64 * 4
"""Of the embedded default: layers, keys and values, heads, size of a head, float32."""
BLOCK = 16
LONGEST = 96
"""Tokens of a prompt, and of an answer."""
VOCABULARY = range(10, 600)
PROBE = {"prompt": [*range(20, 52)], "max_tokens": 32, "temperature": 0, "ignore_eos": True}
GROWTH = 16 * 2**20
"""Bytes that the server may grow by, once it has seen a quarter of the load."""
SHARES = {"cancelled": 0.25, "wrong": 0.05, "probe": 0.05}
"""Of requests: those left early, those that must be refused, those whose answer is known."""


@dataclass
class Soak:
    """The load, and what was wrong about the answers."""

    address: str
    model: str
    expected: str
    """What the probe must come to."""
    draw: Random
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    async def one(self) -> None:
        """Send a request of some kind and judge the answer."""
        kind = self.draw.choices([*SHARES, "plain"], [*SHARES.values(), 1 - sum(SHARES.values())])[0]
        body = {"model": self.model, **(PROBE if kind == "probe" else self._random())}
        if kind == "wrong":
            body |= self.draw.choice(({"temperature": -1}, {"max_tokens": 10 * CONTEXT}, {"prompt": [10**6]}))
        leave_after = self.draw.randrange(1, 1 + body["max_tokens"] // 2) if kind == "cancelled" else None
        try:
            told = await stream(self.address, body, leave_after=leave_after)
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            self.problems.append(f"a {kind} request had no answer: {error!r}")
            return
        self.counts[kind] += 1
        self.counts["tokens"] += told.tokens
        if kind == "wrong":
            self._expect(told.status == 400, f"{body} was answered {told.status}, not 400")
        elif kind != "cancelled":
            whole = told.complete and told.tokens == body["max_tokens"]
            self._expect(whole, f"{body['max_tokens']} tokens were asked for: {told.status}, {told.events[-1:]}")
        if kind == "probe":
            self._expect(told.text == self.expected, f"the probe became {told.text!r}, not {self.expected!r}")

    def _random(self) -> dict[str, Any]:
        draw = self.draw
        return {
            "prompt": draw.choices(VOCABULARY, k=draw.randint(1, LONGEST)),
            "max_tokens": draw.randint(2, LONGEST),
            "temperature": draw.choice((0, 0.7, 1)),
            "top_p": draw.choice((0.9, 1)),
            "presence_penalty": draw.choice((0, 0.5)),
            "seed": draw.getrandbits(31),
            "ignore_eos": True,
        }

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)


@dataclass(frozen=True)
class Load:
    """How much, for how long."""

    seconds: float
    requests: int | None
    rate: float
    room: int
    """Requests under way at most."""

    async def put_on(self, soak: Soak, server: Server) -> list[float]:
        """Send the requests; the memory of the server after a quarter of the load and after all of it."""
        began, memory, sent = time.perf_counter(), [], 0
        under_way: set[asyncio.Task[None]] = set()
        while (share := self._done(sent, time.perf_counter() - began)) < 1 and not soak.problems:
            if share >= 0.25 and not memory:
                memory.append(server.memory())
            while len(under_way) >= self.room:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            under_way.add(asyncio.create_task(soak.one()))
            sent += 1
            if self.rate:
                await asyncio.sleep(soak.draw.expovariate(self.rate))
        await asyncio.gather(*under_way)
        return [*memory, server.memory()]

    def _done(self, sent: int, seconds: float) -> float:
        return max(seconds / self.seconds, sent / self.requests if self.requests else 0)


async def whole_cache(address: str, model: str) -> str | None:
    """What is wrong, if one request cannot take all of the cache."""
    prompt = [10 + number % 500 for number in range(CONTEXT - 8)]
    body = {"model": model, "prompt": prompt, "max_tokens": 8, "ignore_eos": True}
    told = await stream(address, body)
    return None if told.tokens == 8 else f"blocks are missing: {CONTEXT} tokens: {told.status}, {told.events[-1:]}"


def main() -> None:
    """Put the load on, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, help="end after so many")
    parser.add_argument("--batch", type=int, default=32, help="sequences that run together at most")
    parser.add_argument("--rate", type=float, default=8, help="requests a second, on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    flags = {
        "--dtype": "float32",
        "--max-model-len": CONTEXT,
        "--max-num-seqs": options.batch,
        "--block-size": BLOCK,
        "--kv-cache-memory-bytes": CONTEXT * BYTES_PER_TOKEN,
    }
    command = quire(*(str(word) for flag in flags.items() for word in flag))
    with Server(command, {"OMP_NUM_THREADS": str(options.threads)}) as server:
        model = model_of(server.address)
        expected = asyncio.run(stream(server.address, {"model": model, **PROBE})).text
        soak = Soak(server.address, model, expected, Random(options.seed))
        load = Load(options.seconds, options.requests, options.rate, 2 * options.batch)
        began = time.perf_counter()
        memory = asyncio.run(load.put_on(soak, server))
        seconds = time.perf_counter() - began
        missing = asyncio.run(whole_cache(server.address, model))
    problems = soak.problems + ([missing] if missing else [])
    growth = memory[-1] - memory[0]
    if growth > GROWTH:
        problems.append(f"memory grew by {growth / 2**20:.0f} MiB, more than {GROWTH / 2**20:.0f}")
    rows = [Row({"what": name}, "requests", float(soak.counts[name])) for name in ("plain", *SHARES)]
    rows.append(Row({"what": "drawn for those that stayed"}, "tok/s", soak.counts["tokens"] / seconds))
    rows.append(Row({"what": "memory after a quarter"}, "MiB", memory[0] / 2**20))
    rows.append(Row({"what": "growth since"}, "MiB", growth / 2**20, goal=GROWTH / 2**20))
    rows.append(Row({"what": "problems"}, "count", float(len(problems)), goal=0.0))
    finish("soak", options, rows)
    if problems:
        raise SystemExit("\n".join(problems[:20]))


if __name__ == "__main__":
    main()
