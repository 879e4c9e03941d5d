"""How long from exec to the first token: a real server of the embedded default, asked once over HTTP.

usage: python -m benchmarks.startup [--rounds 5] [--model MODEL] [--python vllm-cpu=PATH] [--json auto]

Medians of whole starts, by turns. vLLM serves a random checkpoint of about the same size, where there is an environment
that has it. Files are warm after the first start.
"""

from __future__ import annotations

import asyncio

from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.servers import Server, quire, vllm
from benchmarks.shapes import SHAPES, checkpoint
from benchmarks.streams import model_of, stream

PEER = "vllm-cpu"
GOALS = {"alive": 1.0, "first token": 3.0}
"""Seconds."""


def start(command: list[str], environment: dict[str, str]) -> dict[str, float | None]:
    """Seconds from exec until the server listens, is ready, and has given its first token."""
    with Server(command, environment) as server:
        body = {"model": model_of(server.address), "prompt": "Hello", "max_tokens": 1}
        asyncio.run(stream(server.address, body))
        return {"alive": server.alive, "ready": server.ready, "first token": server.age}


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=5)
    environments.add_options(parser)
    parser.add_argument("--model", help="the embedded default when absent")
    options = parser.parse_args()
    flags = ["--model", options.model] if options.model else []
    sides = {"ours": lambda _: start(quire(*flags), {})}
    python = environments.known(PEER, options)
    if python:
        command = vllm(python, checkpoint(SHAPES["tiny"], options.cache), "--max-model-len", "1024")
        sides[PEER] = lambda _: start(command, environments.best_vllm(python, options.threads, 0))
    taken = turns(options.rounds, sides)
    rows = []
    for what in ("alive", "ready", "first token"):
        found = {
            name: median(each[what] for each in starts) for name, starts in taken.items() if starts[0][what] is not None
        }
        if "ours" in found:
            rows.append(Row({"exec to": what}, "s", found.pop("ours"), found, goal=GOALS.get(what)))
    finish("startup", options, rows)


if __name__ == "__main__":
    main()
