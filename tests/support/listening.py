"""A server of its own in front of any application, on a real socket, and clients that speak to it in bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias, cast

from uvicorn import Server

from quire_server import tls
from quire_server.connection import Connection, ConnectionClass, patience_of
from quire_server.entrance import Entrance
from quire_server.serve import loop_factory, make_server, uvicorn_config
from quire_server.settings import ServerSettings

PATIENCE = 20.0
"""Seconds that a test waits for anything."""

Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class Client:
    """One connection, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def ask(self, path: str = "/", body: bytes = b"") -> tuple[int, bytes]:
        """One request in the ordinary way, and its answer."""
        self.send(request(path, body))
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer: its status and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return int(head.split()[1]), await self.reader.readexactly(int(fields[b"content-length"]))

    async def refusal(self) -> tuple[int, str]:
        """The one answer behind which the connection ends: its code and its message."""
        status, body = await self.answer()
        assert await self.reader.read() == b""
        error = json.loads(body)["error"]
        assert error["code"] == status
        return status, error["message"]

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


def request(path: str = "/", body: bytes = b"", *fields: bytes) -> bytes:
    head = (f"POST {path} HTTP/1.1".encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *fields, b"", b"")
    return b"\r\n".join(head) + body


class Listening:
    """A server that listens on a port of its own."""

    def __init__(self, server: Server, address: tuple[str, int]) -> None:
        self.server, self.address = server, address

    async def nobody_is_connected(self) -> None:
        """Wait until every client that was there has gone."""
        while not self.server.server_state.connections:
            await asyncio.sleep(0)
        await self.everybody_has_left()

    async def everybody_has_left(self) -> None:
        """Wait until nobody is connected."""
        while self.server.server_state.connections:
            await asyncio.sleep(0.01)

    async def until(self, reached: Callable[[Connection], bool]) -> None:
        """Wait until the one connection that there is stands like this."""
        while True:
            connections = [one for one in self.server.server_state.connections if isinstance(one, Connection)]
            if connections and all(map(reached, connections)):
                return
            await asyncio.sleep(0)

    @asynccontextmanager
    async def client(
        self, receive_buffer: int | None = None, context: ssl.SSLContext | None = None
    ) -> AsyncIterator[Client]:
        """A client that connects, over TLS if it has a context for that."""
        one = socket.socket()
        if receive_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, self.address)
        limit = receive_buffer or 2**16
        name = None if context is None else "localhost"
        reader, writer = await asyncio.open_connection(sock=one, limit=limit, ssl=context, server_hostname=name)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def listening(
    app: Application, send_buffer: int | None = None, connections: int | None = None, **settings: Any
) -> AsyncIterator[Listening]:
    """An application behind a server's own connections, at most so many, under these settings."""
    entrance, listens = Entrance(), asyncio.Event()
    entrance.open(app)
    asked = ServerSettings(**{"api_key": (), "shutdown_timeout": 1.0} | settings)
    config = uvicorn_config(entrance, asked)
    if connections is not None:
        patience = replace(patience_of(asked), connections=connections)
        config.http = cast("type[asyncio.Protocol]", ConnectionClass(patience))
    server = make_server(config, listens.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await listens.wait()
        try:
            async with tls.refreshing(config.ssl, asked):
                yield Listening(server, listener.getsockname())
            while server.server_state.tasks:  # every request has an end, also one that nobody waits for
                await asyncio.sleep(0)
        finally:
            server.should_exit = server.force_exit = True
            await serving


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do this on an event loop as servers have it."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(asyncio.wait_for(work, PATIENCE))
