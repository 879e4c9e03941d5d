"""Servers that share a listener: each takes what comes when it has time, and all that wait are taken."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.listening import request
from tests.support.loop import run

from quire_server import accepting
from quire_server.accepting import AcceptingServer
from quire_server.entrance import Entrance
from quire_server.serve import make_server, uvicorn_config
from quire_server.settings import ServerSettings

CLIENTS = 12


def application(name: str) -> Entrance:
    """Answers everything with its name."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": name.encode()})

    entrance = Entrance()
    entrance.open(answer)
    return entrance


@asynccontextmanager
async def sharing(listener: socket.socket, name: str, **settings: Any) -> AsyncIterator[AcceptingServer]:
    """One of the servers of a listener, which the others still have when it ends."""
    listens = asyncio.Event()
    config = uvicorn_config(application(name), ServerSettings(api_key=(), api_server_count=2, **settings))
    server = make_server(config, listens.set, shares=True)
    assert isinstance(server, AcceptingServer)
    own = socket.socket(fileno=os.dup(listener.fileno()))  # as a process has it that inherits the listener
    serving = asyncio.create_task(server.serve(sockets=[own]))
    await listens.wait()
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        await serving


async def who_answers(listener: socket.socket) -> str:
    """Ask over a connection of one's own."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(request())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    name = await reader.readexactly(1)
    writer.close()
    return name.decode()


def test_connections_that_come_at_once_are_spread() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with sharing(listener, "a"), sharing(listener, "b"):
                names = await asyncio.gather(*(who_answers(listener) for _ in range(CLIENTS)))
        assert min(names.count(name) for name in "ab") >= CLIENTS // 4

    run(scenario())


def test_who_ends_leaves_the_listener_to_the_others() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with sharing(listener, "a"):
                async with AsyncExitStack() as other:
                    await other.enter_async_context(sharing(listener, "b"))
                assert {await who_answers(listener) for _ in range(3)} == {"a"}

    run(scenario())


def test_a_listener_that_fails_for_once_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "PAUSE", 0.0)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with sharing(listener, "a"):
                loop, failures = asyncio.get_running_loop(), [OSError(24, "Too many open files")]
                accept = loop.sock_accept

                async def once_in_vain(one: socket.socket) -> Any:
                    if failures:
                        raise failures.pop()
                    return await accept(one)

                monkeypatch.setattr(loop, "sock_accept", once_in_vain)
                assert [await who_answers(listener) for _ in range(2)] == ["a", "a"]

    run(scenario())
    assert "A connection could not be taken" in caplog.text


async def over_tls(listener: socket.socket, context: ssl.SSLContext | None) -> bytes:
    """What a client is told, over TLS if it has a context for that."""
    name = None if context is None else "localhost"
    reader, writer = await asyncio.open_connection(*listener.getsockname(), ssl=context, server_hostname=name)
    writer.write(request("/", b"", b"Connection: close"))
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_a_handshake_that_fails_or_never_comes_holds_up_nobody(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert", tmp_path / "key"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as silent:
            async with sharing(listener, "a", ssl_certfile=str(certificate), ssl_keyfile=str(key)):
                silent.setblocking(False)
                await asyncio.get_running_loop().sock_connect(silent, listener.getsockname())
                assert await over_tls(listener, None) == b""
                assert (await over_tls(listener, context)).startswith(b"HTTP/1.1 200 ")

    run(scenario())
