"""A request that names itself with an Idempotency-Key is answered once, and can be had again. It knows no route.

The answer is made apart from the connection that asked for it, so it goes on for a grace when that breaks. The same
request under the same key joins it, from its beginning or behind the event that `Last-Event-ID` names; every event of
such a stream has an id. After the draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key)
and the WHATWG HTML standard, section 9.2. A request without a key is none of this module's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from http import HTTPStatus
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire_engine.errors import Overloaded
from quire_protocol import sse
from quire_server.errors import describe, envelope, error_answer, headers_of
from quire_server.kept import KeptAnswer, KeptAnswers, Owned, Reader
from quire_server.shortcut import close_shortcut
from quire_server.streams import FAILED, ClientGone, unless_gone

logger = logging.getLogger("quire")

KEY = re.compile(r"[\x20-\x7e]{1,255}")
"""An Idempotency-Key: visible ASCII, of a length that is no burden to keep."""
EVENT_ID = re.compile(r"([0-9a-f]{32})-(\d{1,9})")
"""The id of an event: its answer's name, and how many pieces the answer has up to and with it."""

LARGE = 64 * 1024
"""Bytes from which on a body is digested in a thread, so that it holds up nobody's stream."""

REPLAYED = "Idempotent-Replayed"
"""The header of an answer that an earlier request had begun."""

NOT_KEPT = (
    "The stream that Last-Event-ID names is not kept, or not any more (--stream-grace): "
    "send the request without Last-Event-ID to begin anew."
)


class Place(NamedTuple):
    """Where in an answer to begin."""

    answer: KeptAnswer
    pieces: int
    """How many of its pieces the client has had."""
    is_new: bool = False


class Head(NamedTuple):
    """How an answer begins."""

    start: Message
    route: object
    """The route that made it; None where none did."""


class Resume:
    """Answers a request with an Idempotency-Key once, and gives everybody who asks for it again what is there."""

    def __init__(self, app: ASGIApp, kept: KeptAnswers) -> None:
        self.app = app
        self.kept = kept
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        key, last = _asked_for(scope)
        if key is None and last is None:
            return await self.app(scope, receive, send)
        try:
            if key is not None:
                place = await self._asked(scope, receive, key, last)
            else:
                place = await self._resumed(scope, receive, last)
            with self.kept.reading(place.answer, place.pieces) as reader:
                await unless_gone(self._send(place, reader, scope, send), receive)
        except ClientGone:
            pass
        except HTTPException as refusal:
            error = error_answer(envelope(refusal.detail, refusal.status_code), refusal.headers)
            await error(scope, receive, send)
        except Overloaded as full:
            await error_answer(describe(full), headers_of(full))(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive, key: str, last: re.Match[str] | None) -> Place:
        """Where the client of a request with this key goes on. HTTPException if there is no such place."""
        if not KEY.fullmatch(key):
            reason = "Idempotency-Key has 1 to 255 visible ASCII characters."
            raise HTTPException(HTTPStatus.BAD_REQUEST, reason)
        body = await _body(receive)
        asked = await asyncio.to_thread(_digest, scope, body) if len(body) >= LARGE else _digest(scope, body)
        owned = Owned(_owner(scope), key)
        answer = self.kept.find(owned)
        if answer is not None and answer.asked != asked:
            reason = "This Idempotency-Key was sent with another request: take a new key for a new request."
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        if last is not None:
            if answer is None:
                raise HTTPException(HTTPStatus.GONE, NOT_KEPT)
            return Place(answer, _pieces(answer, last))
        if answer is not None:
            return Place(answer, 0)
        answer = self.kept.begin(owned, asked)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        task = asyncio.create_task(self._make(answer, scope, messages), name="quire-kept-answer")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return Place(answer, 0, is_new=True)

    async def _resumed(self, scope: Scope, receive: Receive, last: re.Match[str] | None) -> Place:
        """Where the stream goes on that this event was of."""
        assert last is not None
        await _body(receive)  # of no use, but it may break the limits: that has to be told before an answer begins
        answer = self.kept.named(_owner(scope), last[1])
        if answer is None:
            raise HTTPException(HTTPStatus.GONE, NOT_KEPT)
        return Place(answer, _pieces(answer, last))

    async def _make(self, answer: KeptAnswer, scope: Scope, messages: list[Message]) -> None:
        """Let the application answer these; it sees the client leave once nobody can come back any more."""

        async def receive() -> Message:
            if messages:
                return messages.pop()  # whoever takes the body is the last to have it
            await answer.unread.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self._write(answer, message, scope)
            await answer.has_room.wait()

        close_shortcut(scope)  # all that is sent is to be kept
        try:
            await self.app(scope, receive, send)
            answer.end(RuntimeError("the application ended its answer in the middle"))
        except Exception as error:
            if not answer.readers:
                logger.error("An answer that nobody waited for failed.", exc_info=error)
            answer.end(error)
        finally:
            answer.end(RuntimeError("the server ended"))
            if answer.error is not None or scope.get("state", {}).get(FAILED):
                self.kept.forget(answer)

    def _write(self, answer: KeptAnswer, message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            told = [(name.lower().encode(), value.encode()) for name, value in _told_beside(scope)]
            answer.begin(Head({**message, "headers": [*message["headers"], *told]}, scope.get("route")))
            if message["status"] >= HTTPStatus.BAD_REQUEST:
                self.kept.forget(answer)  # a refusal is no answer: the same key may try again
        elif message["type"] == "http.response.body":
            if body := message.get("body", b""):
                self.kept.write(answer, _numbered(answer, body) if _is_stream(answer.head.start) else [body])
            if not message.get("more_body", False):
                answer.end()

    async def _send(self, place: Place, reader: Reader, scope: Scope, send: Send) -> None:
        """Send an answer from a place on."""
        start, scope["route"] = await place.answer.begun()
        replayed = [] if place.is_new else [(REPLAYED.lower().encode(), b"true")]
        await send({**start, "headers": [*start["headers"], *replayed]})
        while pieces := await place.answer.read(reader):
            await send({"type": "http.response.body", "body": pieces, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def named(scope: Scope) -> tuple[str | None, str | None]:
    """The key that a request has, and the name of the answer that it goes on with; None where there is none.

    What it says by a header that is not read with its method, or that has another form, names nothing.
    """
    key, last = _asked_for(scope)
    return key, None if last is None else last[1]


def _asked_for(scope: Scope) -> tuple[str | None, re.Match[str] | None]:
    """The Idempotency-Key as it came, and the event that Last-Event-ID names."""
    headers = Headers(scope=scope)
    key = headers.get("idempotency-key") if scope["method"] == "POST" else None
    last = EVENT_ID.fullmatch(headers.get("last-event-id", "")) if scope["method"] in ("GET", "POST") else None
    return key, last


async def _body(receive: Receive) -> bytes:
    """All of a request's body. ClientGone if it breaks off."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _digest(scope: Scope, body: bytes) -> bytes:
    """Tells requests apart: their paths and their bodies, byte by byte."""
    where = f"{scope['path']}?".encode() + scope.get("query_string", b"")
    return hashlib.sha256(hashlib.sha256(where).digest() + body).digest()


def _owner(scope: Scope) -> str:
    """The name of the API key that the request brought."""
    caller = scope.get("state", {}).get("caller")
    return "" if caller is None else str(caller.name)


def _pieces(answer: KeptAnswer, last: re.Match[str]) -> int:
    """How many pieces of this answer a client has that has had this event."""
    pieces = int(last[2])
    if last[1] != answer.name or pieces > answer.length:
        raise HTTPException(HTTPStatus.GONE, NOT_KEPT)
    return pieces


def _told_beside(scope: Scope) -> list[tuple[str, str]]:
    """Headers that go out with the first answer, and with each that repeats it."""
    return [*scope.get("state", {}).get("answer_headers", {}).items()]


def _is_stream(head: Message) -> bool:
    kinds = [value for name, value in head["headers"] if name.lower() == b"content-type"]
    return any(kind.startswith(b"text/event-stream") for kind in kinds)


def _numbered(answer: KeptAnswer, events: bytes) -> list[bytes]:
    """Whole events, each with its id; comments are none, and have none."""
    pieces = [piece + sse.END for piece in events.split(sse.END) if piece]
    name, before = answer.name.encode(), answer.length
    return [
        piece if piece.startswith(b":") else b"id: %b-%d\n%b" % (name, before + number, piece)
        for number, piece in enumerate(pieces, 1)
    ]
