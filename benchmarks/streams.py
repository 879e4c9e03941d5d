"""A client that costs little, so that the server is measured: one streamed completion over a bare connection.

While an answer comes, only its pieces and their times are kept; what they say is read when it is complete.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from benchmarks.servers import host_and_port

PATIENCE = 120.0
"""Seconds that one answer may take."""
DONE = b"[DONE]"
HEAD = "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
"""HTTP/1.0: such answers come as they are, not cut into chunks."""
EVENT = re.compile(rb"data: (.*?)\r?\n")
TEXT = re.compile(rb'"text": ?"[^"]')


@dataclass(frozen=True)
class Told:
    """What came back."""

    status: int
    began: float
    arrivals: tuple[float, ...]
    """When each event with text arrived, by the clock of `began`."""
    events: tuple[dict[str, Any], ...]
    """All events, or the one body that is not a stream."""
    complete: bool
    """Whether [DONE] came last."""

    @property
    def text(self) -> str:
        """All of the first choice's text."""
        return "".join(event["choices"][0]["text"] for event in self.events if event.get("choices"))

    @property
    def tokens(self) -> int:
        """Tokens that the server says it has drawn; the request must have asked for usage."""
        return sum(event["usage"]["completion_tokens"] for event in self.events[-1:] if event.get("usage"))


@dataclass(frozen=True)
class Heard:
    """An answer as it came over the wire."""

    began: float
    pieces: list[bytes]
    times: list[float]
    """When each piece came, by the clock of `began`."""

    def told(self) -> Told:
        """What it says. IndexError or ValueError if it is no answer."""
        raw = b"".join(self.pieces)
        head, _, body = raw.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 200:
            return Told(status, self.began, (), (json.loads(body),), complete=False)
        ends = [*accumulate(map(len, self.pieces))]
        found = [*EVENT.finditer(raw, len(head))]
        arrivals = tuple(self.times[bisect_left(ends, each.end())] for each in found if TEXT.search(each[1]))
        events = tuple(json.loads(each[1]) for each in found if each[1] != DONE)
        return Told(status, self.began, arrivals, events, complete=bool(found) and found[-1][1] == DONE)


async def stream(
    address: str, body: dict[str, Any], *, leave_after: int | None = None, headers: Mapping[str, str] | None = None
) -> Told:
    """Send a completion request and read its events; go away after so many of them, if asked."""
    return (await hear(address, body, leave_after=leave_after, headers=headers)).told()


async def hear(
    address: str,
    body: dict[str, Any],
    *,
    leave_after: int | None = None,
    path: str = "/v1/completions",
    headers: Mapping[str, str] | None = None,
) -> Heard:
    """The same, and leave what came unread. OSError if nobody listens, TimeoutError after PATIENCE."""
    content = json.dumps({"stream": True, "stream_options": {"include_usage": True}, **body}).encode()
    listener = _Listener(leave_after)
    began = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        host, port = host_and_port(address)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: listener, host, port)
        try:
            more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
            transport.write(HEAD.format(path=path, length=len(content), more=more).encode() + content)
            await listener.ended
        finally:
            transport.close()
    return Heard(began, listener.pieces, listener.times)


def model_of(address: str) -> str:
    """The name of the model that is served there."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=PATIENCE) as answer:
        name: str = json.load(answer)["data"][0]["id"]
    return name


class _Listener(asyncio.Protocol):
    """Keeps what comes until the server closes the connection, or enough has come."""

    def __init__(self, leave_after: int | None) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = leave_after

    def data_received(self, data: bytes) -> None:
        """A piece, as large as the socket has it ready."""
        self.times.append(time.perf_counter())
        self.pieces.append(data)
        if self._left is not None:
            self._left -= data.count(b"\n\n")
            if self._left <= 0:
                self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, or a broken answer: what is there tells which."""
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
