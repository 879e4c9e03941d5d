"""A real server in a process of its own: its start, its address, what memory and processor time its processes use.

Processes are read from /proc. It knows no request; streams.py sends those.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks.sides import LastWords, Unavailable

START = 300.0
"""Seconds that a server may take to be ready."""
END = 60.0
POLL = 0.01
"""Seconds between two looks."""
PAGE = os.sysconf("SC_PAGE_SIZE")


def quire(*flags: str) -> list[str]:
    """The command line of ours; PORT stands for the port."""
    return [sys.executable, "-m", "quire_server", "serve", *flags, "--port", "PORT"]


def vllm(python: Path, model: Path, *flags: str) -> list[str]:
    """The command line of vLLM's server, with the same name for the model as ours gives it."""
    module = "vllm.entrypoints.openai.api_server"
    return [str(python), "-m", module, "--model", str(model), "--port", "PORT", *flags]


class Server:
    """A running server. Owns the process."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until GET /health says 200. Unavailable if it ends before."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        words = [str(self.port) if word == "PORT" else word for word in command]
        self._began = time.perf_counter()
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._words = LastWords(self.process.stderr)
        try:
            self.alive = self._until("/livez")
            """Seconds from exec until GET /livez said 200; None where there is no such route."""
            self.ready = self._until("/health")
            """Seconds from exec until GET /health said 200."""
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def age(self) -> float:
        """Seconds since exec."""
        return time.perf_counter() - self._began

    def close(self) -> None:
        """Tell it to stop; make it, if it does not."""
        self.process.terminate()
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def processor_seconds(self) -> tuple[float, float]:
        """Of the process that was started, the front end, and of all its descendants, the engine's."""
        front, *others = (_processor_seconds(pid) for pid in _tree(self.process.pid))
        return front, sum(others)

    def front_user_seconds(self) -> float:
        """Of the process that was started, what it spent outside the kernel; counted in clock ticks."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident bytes of all its processes."""
        return sum(_resident(pid) for pid in _tree(self.process.pid))

    def _until(self, path: str) -> float | None:
        """Seconds from exec until this path answers 200; None if it answers 404."""
        while self.age < START:
            if self.process.poll() is not None:
                raise Unavailable(f"the server ended before it was ready: {self._words}")
            status = _status(self.port, path)
            if status in (200, 404):
                return self.age if status == 200 else None
            time.sleep(POLL)
        raise Unavailable(f"the server is not ready after {START:.0f} s")


def host_and_port(address: str) -> tuple[str, int]:
    """Of http://host:port."""
    parts = urlsplit(address)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=END)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _tree(pid: int) -> list[int]:
    """A process and its descendants, itself first."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(each for file in children for child in file.read_text().split() for each in _tree(int(child)))]


def _processor_seconds(pid: int) -> float:
    """Of all threads that it has now, in the scheduler's nanoseconds: the clock ticks of `stat` are too coarse."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
