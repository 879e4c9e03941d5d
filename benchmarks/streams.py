"""A client that costs little, so that the server is measured: one streamed completion over a bare connection."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

from benchmarks.servers import host_and_port

PATIENCE = 120.0
"""Seconds that one answer may take."""
DONE = b"data: [DONE]"
HAS_TEXT = re.compile(rb'"text": ?"[^"]')


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


async def stream(address: str, body: dict[str, Any], *, leave_after: int | None = None) -> Told:
    """Send a completion request and read its events; go away after so many of them, if asked."""
    return await asyncio.wait_for(_stream(address, body, leave_after), PATIENCE)


def model_of(address: str) -> str:
    """The name of the model that is served there."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=PATIENCE) as answer:
        name: str = json.load(answer)["data"][0]["id"]
    return name


async def _stream(address: str, body: dict[str, Any], leave_after: int | None) -> Told:
    content = json.dumps({"stream": True, "stream_options": {"include_usage": True}, **body}).encode()
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(*host_and_port(address), limit=1 << 24)
    try:
        # HTTP/1.0: such answers come as they are, not cut into chunks.
        head = f"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        writer.write(f"{head}\r\n".encode() + content)
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if status != 200:
            return Told(status, began, (), (json.loads(await reader.read()),), complete=False)
        arrivals, lines = await _lines(reader, leave_after)
    finally:
        writer.close()
    complete = bool(lines) and lines[-1] == DONE
    events = tuple(json.loads(line[6:]) for line in lines if line != DONE)
    return Told(status, began, tuple(arrivals), events, complete)


async def _lines(reader: asyncio.StreamReader, leave_after: int | None) -> tuple[list[float], list[bytes]]:
    arrivals: list[float] = []
    lines: list[bytes] = []
    while len(lines) != leave_after and (line := await reader.readline()):
        if line.startswith(b"data: "):
            lines.append(line.rstrip())
            if (
                b'"text":""' not in line
                and b'"text": ""' not in line
                and b'"choices":[]' not in line
                and line[6] == 123
            ):
                arrivals.append(time.perf_counter())
    return arrivals, lines
