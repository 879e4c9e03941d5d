"""The engine's process is killed under streams: how long they pause, and that they go on as if nothing had happened.

usage: python -m benchmarks.recovery [--streams 32] [--tokens 200] [--rounds 3] [--json auto]

Greedy streams in float32 run at the same time, once undisturbed; then, once a round, the engine gets SIGKILL when half
of their tokens are there. Exit status 1 if an answer differs from the undisturbed one, or is not complete.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.bench import Row, arguments, finish, median
from benchmarks.servers import Server, quire
from benchmarks.streams import Told, model_of, stream

PROMPT = range(20, 52)


async def crowd(address: str, bodies: Sequence[dict[str, Any]]) -> list[Told]:
    """The answers to requests that are sent at the same time."""
    return await asyncio.gather(*(stream(address, body) for body in bodies))


async def struck(server: Server, bodies: Sequence[dict[str, Any]], after: float) -> list[Told]:
    """The same, with the engine killed so many seconds after they were sent."""
    answers = asyncio.create_task(crowd(server.address, bodies))
    await asyncio.sleep(after)
    os.kill(engine_of(server), signal.SIGKILL)
    return await answers


def engine_of(server: Server) -> int:
    """The process of its engine, the only one that the server has started."""
    (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(child)


def pause(told: Told) -> float:
    """The longest time between two events of a stream, in seconds."""
    return max((later - earlier for earlier, later in pairwise(told.arrivals)), default=0.0)


def main() -> None:
    """Kill, print, write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=200, help="of each answer")
    options = parser.parse_args()
    flags = (
        "--dtype",
        "float32",
        "--max-num-seqs",
        str(options.streams),
        "--max-engine-deaths",
        str(options.rounds + 1),
    )
    with Server(quire(*flags), {"OMP_NUM_THREADS": str(options.threads)}) as server:
        model = model_of(server.address)
        asked = {"model": model, "max_tokens": options.tokens, "temperature": 0, "ignore_eos": True}
        bodies = [{**asked, "prompt": [10 + place, *PROMPT]} for place in range(options.streams)]
        asyncio.run(crowd(server.address, bodies))  # the first one pays for what is made ready only once
        began = time.perf_counter()
        wanted = asyncio.run(crowd(server.address, bodies))
        seconds = time.perf_counter() - began
        rounds = [asyncio.run(struck(server, bodies, seconds / 2)) for _ in range(options.rounds)]
    lost = sum(
        not told.complete or told.text != whole.text or told.tokens != whole.tokens
        for answers in rounds
        for told, whole in zip(answers, wanted, strict=True)
    )
    pauses = [max(map(pause, answers)) for answers in rounds]
    rows = [
        Row({"what": "start of the server"}, "s", server.ready),
        Row({"what": "longest pause of a stream, undisturbed"}, "s", max(map(pause, wanted))),
        Row({"what": "longest pause of a stream, its engine killed"}, "s", median(pauses)),
        Row({"what": "answers that are not as if nothing had happened"}, "count", float(lost), goal=0.0),
    ]
    finish("recovery", options, rows)
    if lost:
        raise SystemExit(f"{lost} answers of {options.rounds * options.streams} differ.")


if __name__ == "__main__":
    main()
