"""`quire serve` as a process of its own, on a free port, and other commands beside it. Every wait is bounded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

QUIRE = (sys.executable, "-m", "quire_server")
START = 120.0
"""Seconds that a server may take to be ready."""
END = 60.0
"""Seconds that a process may take to end."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    address: str
    """Its scheme, host and port."""
    announced: tuple[str, ...]
    """What it printed up to the line that says it is ready."""

    @property
    def api(self) -> str:
        """What clients take as their base URL."""
        return f"{self.address}/v1"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(END)


@contextmanager
def quire_serve(*flags: str, **environment: str) -> Iterator[Server]:
    """A server that is ready, with these variables in its environment; it is stopped afterwards."""
    command = (*QUIRE, "serve", "--port", "0", *flags)
    variables = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            told = _until_ready(process)
            ready = re.fullmatch(r"ready after [\d.]+ s: (\S+)", told[-1])
            assert ready is not None, told
            yield Server(process, ready[1], tuple(told))
        finally:
            process.terminate()
            try:
                process.wait(END)
            finally:
                process.kill()


def engine_of(server: Server) -> int:
    """The process of its engine: the only one that it has started."""
    (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(child)


def _until_ready(process: subprocess.Popen[str]) -> list[str]:
    """The lines it prints, up to the one that says it is ready."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    assert process.stdout is not None
    assert process.stderr is not None
    complaints: list[str] = []
    Thread(target=lambda out: [*map(lines.put, out), lines.put(None)], args=(process.stdout,), daemon=True).start()
    Thread(target=lambda err: complaints.extend(err), args=(process.stderr,), daemon=True).start()
    told: list[str] = []
    while not told or not told[-1].startswith("ready"):
        try:
            line = lines.get(timeout=START)
        except Empty:
            raise AssertionError(f"not ready after {START} s: {told}") from None
        assert line is not None, f"ended before it was ready: {told} {complaints}"
        told.append(line.rstrip("\n"))
    return told


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=START, check=False)


def quire(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A `quire` command that ends by itself."""
    return run(*QUIRE, *words, stdin=stdin)
