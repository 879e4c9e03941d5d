"""A transport that writes what it was given in one turn of the event loop together; it knows nothing of what that is.

uvicorn writes the head of an answer, each piece of its body and its end one by one, and each is a call of the kernel,
which wakes whoever reads at the other end. Nearly all of a short answer is there in one turn.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST = 64 * 1024
"""Bytes that are not kept back any longer: what waits here is not seen to be too much for a slow client."""


class Gathered(asyncio.Transport):
    """The writing side of another transport. Owned by the connection that has that."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write this with all else of this turn."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > MOST:
            self.flush()

    def write_now(self, data: bytes) -> None:
        """Write this at once, where it is known that nothing follows in this turn."""
        if self._pieces:
            self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Write what was kept back; nothing, where the connection has gone meanwhile."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Say that nothing follows, once everything is written."""
        self.flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._pieces, self._size = [], 0
        self._transport.abort()

    def can_write_eof(self) -> bool:
        """As the other transport."""
        return self._transport.can_write_eof()

    def is_closing(self) -> bool:
        """As the other transport."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Bytes that are still to be taken, those kept back among them."""
        return self._size + self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the other transport."""
        return self._transport.get_extra_info(name, default)
