"""uvicorn's server as it runs here: it leaves signals alone, tells when it listens, and may take connections itself.

It does so where they begin with a handshake (TLS), since event loops by themselves tell of none that goes on: these
count among the most that may be connected, and have as long as the head of a request. And it does so on a listener that
several processes share. Each takes one connection at a time, whenever it has time for one, and then leaves the next to
the others for a moment, the longer the more it has: so who is busy takes fewer, whoever ends loses none that nobody has
taken, and a burst of connections is spread, of which event loops by themselves take all that wait, at once. It knows
nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn

from quire_server.connection import TOLD, ConnectionClass

logger = logging.getLogger("quire")

PAUSE = 1.0
"""Seconds before the next connection is taken where one could not be, as when too many files are open."""

COURTESY, MANY = 0.0002, 10
"""Seconds for which a next connection is left to others, for each that is there; more than so many count no more."""


class TellingServer(uvicorn.Server):
    """uvicorn's server, without signal handlers of its own, that calls `tell` once it listens."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = tell

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        self._tell()


class AcceptingServer(TellingServer):
    """The same, taking connections one by one."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None], *, shares: bool = False) -> None:
        """`shares`: other processes take connections from the same listeners."""
        super().__init__(config, tell)
        self._shares = shares
        self._make = cast(ConnectionClass, config.http)
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()
        """Connections that have been taken, and are not yet ready: a handshake takes its time."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and take connections one by one."""
        for listener in sockets or []:
            listener.listen(self.config.backlog)
            listener.setblocking(False)
        await super().startup([])
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and wait for those that are there."""
        tasks = [*self._accepting, *self._greeting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                one, _ = await loop.sock_accept(listener)
            except OSError as error:
                logger.error("A connection could not be taken: %s.", error)
                await asyncio.sleep(PAUSE)
                continue
            there = len(self._greeting) + len(self.server_state.connections)
            if there >= self._make.patience.connections + TOLD:
                one.close()
                continue
            greeting = asyncio.create_task(self._greet(one))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)
            if self._shares:
                await asyncio.sleep(COURTESY * min(1 + there, MANY))

    async def _greet(self, one: socket.socket) -> None:
        """Make a connection of what was taken; whoever fails at the handshake is let go."""
        patience = None if self.config.ssl is None else self._make.patience.head_seconds
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection, one, ssl=self.config.ssl, ssl_handshake_timeout=patience
            )
        except (OSError, ssl.SSLError):
            one.close()

    def _connection(self) -> asyncio.Protocol:
        """What uvicorn makes for each connection of a listener of its own."""
        return self._make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None)
