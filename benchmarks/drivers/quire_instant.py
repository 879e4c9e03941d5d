"""Ours with an engine that computes nothing: scheduler, link and front end are the server's own, every token is given.

usage: python quire_instant.py SECONDS serve MODEL [flags]; a step takes SECONDS at least.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.link.process import ProcessLink
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_server.cli import main

PACE = "QUIRE_INSTANT_SECONDS"
TOKENS = range(100, 200)


class Instant:
    """A runner whose results are there at once, one step in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.next = 0.0
        self.steps = 0

    def run(self, batch: Batch) -> Given:
        now = time.monotonic()
        self.next = max(now, self.next + self.seconds)
        self.steps += 1
        token = TOKENS[self.steps % len(TOKENS)]
        return Given([SpanResult(token if span.samples else None) for span in batch.spans], self.next - now)

    def mend(self, blocks: Sequence[int]) -> list[int]:
        return []

    def warm_up(self) -> None: ...

    def improve(self) -> bool:
        return False

    def close(self) -> None: ...


class Given:
    """A batch that needs no computing, only its time."""

    def __init__(self, results: list[SpanResult], seconds: float) -> None:
        self.results = results
        self.seconds = seconds

    def wait(self) -> list[SpanResult]:
        time.sleep(self.seconds)
        return self.results


def load(config: EngineConfig, *, progress: bool = False) -> Engine:
    """The engine as it is loaded, with another runner."""
    engine = Engine.load(config, progress=progress)
    engine.runner = Instant(float(os.environ[PACE]))
    return engine


async def start(kind: type[ProcessLink], config: EngineConfig, *, progress: bool = False) -> ProcessLink:
    """The server's own link, to that engine."""
    link: ProcessLink = await _start(kind, config, progress=progress, factory="quire_instant:load")
    return link


_start = ProcessLink.start.__func__  # type: ignore[attr-defined]

if __name__ == "__main__":
    os.environ[PACE] = sys.argv.pop(1)
    ProcessLink.start = classmethod(start)  # type: ignore[assignment]
    sys.exit(main())
