"""A request that names itself goes to the one worker of several that keeps its answer, whichever of them it came to.

Whose it is follows from its Idempotency-Key and who asks, or from the name in its Last-Event-ID, so that nobody has to
be told. Between two workers it goes over a unix socket in a folder of the server's own: a head in JSON, then pieces
of the body, each behind its length; an empty one is the last. The answer comes back in the same form.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire_engine.link.frames import framed, read_body
from quire_protocol.base import random_uuid
from quire_server.entrance import Application, Entrance, Receive, Scope, Send

if TYPE_CHECKING:
    from quire_server.keys import Keys

LINGER = 5.0
"""Seconds for which what still comes of a request is thrown away once it is answered."""
RELAYED = "quire.relayed"
"""The extension of a scope that has come from another worker, and goes no further."""
AWAY = "The process that keeps this answer is being started again; try again in a moment."
IN_BYTES = ("raw_path", "query_string")
COPIED = ("type", "http_version", "method", "scheme", "path", "root_path", "client", "server")


class Relay:
    """Passes on what others keep, and takes what they pass on. Stands right behind the entrance."""

    def __init__(self, entrance: Entrance, folder: Path, place: int, places: int) -> None:
        """The worker in this place, of so many; all have their sockets in this folder."""
        self._entrance = entrance
        self._folder = folder
        self._place = place
        self._places = places

    def new_name(self) -> str:
        """A name for an answer that is kept here; it cannot be guessed, and says where it is."""
        while self._place_of(name := random_uuid()) != self._place:
            pass
        return name

    def in_front_of(self, app: Application, keys: Keys) -> Application:
        """The same application, but for what others keep."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            place = self._keeper(scope, keys)
            if place == self._place:
                await app(scope, receive, send)
            else:
                await self._hand_over(place, scope, receive, send)

        return answer

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Meanwhile, answer what others pass on."""
        path = self._path(self._place)
        path.unlink(missing_ok=True)  # one that was killed leaves it
        async with await asyncio.start_unix_server(self._take_over, path):
            yield

    def _keeper(self, scope: Scope, keys: Keys) -> int:
        """The place of the worker that has, or will have, the answer to this request."""
        if scope["type"] != "http" or RELAYED in scope.get("extensions", {}):
            return self._place
        from quire_server.middleware import bearer_token
        from quire_server.resume import named

        key, name = named(scope)
        if key is None:
            return self._place if name is None else self._place_of(name)
        caller = keys.caller(bearer_token(scope))
        return self._place_of(f"{'' if caller is None else caller.name}\n{key}")

    def _place_of(self, text: str) -> int:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % self._places

    def _path(self, place: int) -> Path:
        return self._folder / f"worker-{place}"

    async def _hand_over(self, place: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Let another worker answer. One that is away is told of; one that goes meanwhile breaks the answer off."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path(place))
        except OSError:
            return await _away(scope, receive, send)
        passing = asyncio.create_task(_pass_body(receive, writer))
        has_begun = False
        try:
            writer.write(framed(_written(scope)))
            head = json.loads(await read_body(reader))
            has_begun = True
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
            await send({"type": "http.response.start", "status": head["status"], "headers": fields})
            while piece := await read_body(reader):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (asyncio.IncompleteReadError, ConnectionError):
            if not has_begun and not passing.done():
                await _away(scope, receive, send)
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            writer.close()

    async def _take_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a request that another worker passes on."""
        is_whole = False

        async def receive() -> dict[str, Any]:
            nonlocal is_whole
            try:
                piece = await read_body(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return {"type": "http.disconnect"}
            is_whole = not piece
            return {"type": "http.request", "body": piece, "more_body": not is_whole}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                writer.write(framed(json.dumps({"status": message["status"], "headers": fields}).encode()))
            elif message["type"] == "http.response.body":
                if body := message.get("body", b""):
                    writer.write(framed(body))
                if not message.get("more_body", False):
                    writer.write(framed(b""))
            with contextlib.suppress(ConnectionError):  # who has left is heard of by `receive`
                await writer.drain()

        try:
            await self._entrance(_read_scope(await read_body(reader)), receive, send)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it left before it had said what it wants
        finally:
            await _let_go(reader, writer)


async def _pass_body(receive: Receive, writer: asyncio.StreamWriter) -> None:
    """Pass the body on as it comes, then wait until the client leaves, and pass that on too."""
    with contextlib.suppress(ConnectionError):  # who answers has gone: the answer's reader hears of it
        while (message := await receive())["type"] == "http.request":
            if body := message.get("body", b""):
                writer.write(framed(body))
            if not message.get("more_body", False):
                writer.write(framed(b""))
            await writer.drain()
        writer.close()


async def _let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a socket once the answer has been read: what still comes behind a refusal must not spoil that."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write_eof()
        async with asyncio.timeout(LINGER):
            while await reader.read(2**16):
                pass
    writer.close()


async def _away(scope: Scope, receive: Receive, send: Send) -> None:
    from quire_server.errors import envelope, error_answer

    answer = error_answer(envelope(AWAY, HTTPStatus.SERVICE_UNAVAILABLE), {"Retry-After": "1"})
    await answer(scope, receive, send)


def _written(scope: Scope) -> bytes:
    """What a request says of itself, but for its body."""
    told = {name: scope.get(name) for name in COPIED}
    told |= {name: scope.get(name, b"").decode("latin-1") for name in IN_BYTES}
    told["headers"] = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return json.dumps(told).encode()


def _read_scope(body: bytes) -> Scope:
    """The scope again, as the server itself would have made it, and marked."""
    scope: dict[str, Any] = json.loads(body)
    for name in IN_BYTES:
        scope[name] = scope[name].encode("latin-1")
    scope["headers"] = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope["headers"]]
    scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}
    return scope | {"state": {}, "extensions": {RELAYED: {}}}
