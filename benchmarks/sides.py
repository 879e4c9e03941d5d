"""A side of a comparison: one program in a process of its own, asked over pipes, so that sides can take turns.

It knows nothing of what is asked; the drivers of benchmarks/drivers are the far ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Self

DRIVERS = Path(__file__).parent / "drivers"
START = 600.0
"""Seconds that a side may take to be ready: a peer may export or compile a model first."""
PATIENCE = 600.0
"""Seconds that one answer may take."""
END = 30.0


class Unavailable(Exception):
    """This side cannot be measured here; the text says why."""


class LastWords:
    """What a process said last on its error stream, which is read so that it never blocks."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self._lines: deque[str] = deque(maxlen=5)
        self._reader = Thread(target=self._lines.extend, args=(stream,), daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        self._reader.join(END)  # a process that ended has nothing more to say
        return " ".join("".join(self._lines).split())[-400:]


@dataclass(frozen=True)
class Program:
    """What runs on a side."""

    driver: str
    """A file of benchmarks/drivers, without its ending."""
    python: Path
    model: Path
    options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """Words of the command line."""
        return [str(self.python), str(DRIVERS / f"{self.driver}.py"), str(self.model), json.dumps(dict(self.options))]


class Side:
    """A running program. Owns the process."""

    def __init__(self, program: Program) -> None:
        """Start it and wait until it is ready. Unavailable, with its own last words, if it does not get there."""
        began = time.perf_counter()
        self.process = subprocess.Popen(
            program.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **program.environment},
        )
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._words = LastWords(self.process.stderr)
        Thread(target=self._read, daemon=True).start()
        try:
            told, preparing = self._answer(START), 0.0
            if "preparing" in told:
                preparing, told = told["preparing"], self._answer(START)
            if "refused" in told:
                raise Unavailable(told["refused"])
        except BaseException:
            self.close()
            raise
        self.ready = time.perf_counter() - began - preparing
        """Seconds from exec until it could be asked, without those in which files were made that are made once."""

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Its answer to one question. Unavailable if it ends instead."""
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return self._answer(PATIENCE)

    def close(self) -> None:
        """Let it end; make it, if it does not."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            raise Unavailable(f"no answer within {seconds:.0f} s") from None
        if line is None:
            raise Unavailable(f"it ended: {self._words}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)
