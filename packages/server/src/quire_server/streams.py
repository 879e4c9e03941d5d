"""How an answer leaves: at once or as server-sent events, and given up as soon as the client goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from quire_engine.text.output import Output
from quire_protocol import sse
from quire_server.accounts import CLIENT_CLOSED_REQUEST, account_of_this_request
from quire_server.errors import describe
from quire_server.measured import measured, with_metrics
from quire_server.replies.outputs import Taker
from quire_server.replies.wire import Chunks, encode
from quire_server.shortcut import Shortcut, shortcut_of

T = TypeVar("T")

WARNINGS_HEADER = "X-Quire-Warnings"
_LONGEST_HEADER = 1024

FAILED = "answer_failed"
"""Stands in the state of a request whose stream ended with an error."""

KEEP_ALIVE = b": keep-alive" + sse.END
"""A comment, which no client takes for an event."""


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class Reply(Protocol):
    """An answer that can be had piece by piece or whole."""

    def chunks(self) -> Chunks:
        """The pieces as they come: all that are there, whenever some are."""

    async def complete(self) -> BaseModel:
        """The whole."""

    def offer_to(self, taker: Taker) -> None:
        """Let this one take outputs before they become chunks; what it leaves does."""

    def take(self, output: Output) -> bytes | None:
        """The events of an output that was taken so; None where it has to be left."""


async def respond(reply: Reply, http: Request, *, stream: bool, warnings: tuple[str, ...]) -> Response:
    """The reply as server-sent events, or as JSON once it is complete."""
    account = account_of_this_request()
    if stream:
        keep_alive = http.app.state.serving.settings.sse_keep_alive_interval
        if account is not None and account.wants_metrics:  # the last chunk has them: which one that is shows too late
            return EventStream(measured(reply.chunks(), account), warning_headers(warnings), keep_alive=keep_alive)
        return EventStream(reply.chunks(), warning_headers(warnings), keep_alive=keep_alive, reply=reply)
    try:
        answer = with_metrics(await unless_gone(reply.complete(), http.receive), account)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    told = (answer.model_extra or {}).get("warnings", ())  # the engine may have had something to add
    return Response(answer.model_dump_json(), headers=warning_headers(told), media_type="application/json")


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    """The warnings as a header, in ASCII and of bounded length; none when there is nothing to warn of."""
    told = " ".join(warnings).encode("ascii", "backslashreplace").decode()
    visible = "".join(each if " " <= each <= "~" else "?" for each in told)
    return {WARNINGS_HEADER: visible[:_LONGEST_HEADER]} if warnings else {}


class Passing:
    """Takes outputs of a reply and writes their events, as long as nobody has to wait for that."""

    __slots__ = ("last", "reply", "shortcut")

    def __init__(self, reply: Reply, shortcut: Shortcut) -> None:
        self.reply = reply
        self.shortcut = shortcut
        self.last = 0.0
        """When something was written last, in seconds of time.monotonic()."""

    def __call__(self, output: Output) -> bool:
        """A Taker."""
        if not self.shortcut.is_free:
            return False
        events = self.reply.take(output)
        if events is None:
            return False
        if events:
            self.last = time.monotonic()
            self.shortcut.write(events)
        return True


class EventStream(Response):
    """Chunks as server-sent events, up to `[DONE]`. The status leaves with the first of them.

    An error before that is raised, and becomes an answer with a status of its own; later it is an event.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: Chunks,
        headers: Mapping[str, str] | None = None,
        *,
        keep_alive: float = 0,
        reply: Reply | None = None,
    ) -> None:
        """`keep_alive` is after how many seconds without an event a comment is sent; 0 sends none.

        The outputs of `reply`, whose chunks these are, take the shortcut where there is one.
        """
        self.chunks = chunks
        self.keep_alive = keep_alive
        self.reply = reply
        self._passing: Passing | None = None
        """What takes the shortcut, where there is one."""
        self._last = time.monotonic()
        """When something was sent last, but for that."""
        self._has_begun = False
        self._beginning = asyncio.Lock()
        self.status_code = 200
        self.background = None
        # Proxies (nginx above all) must hand events on as they come.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes away closes the chunks, wherever they wait."""
        with suppress(ClientGone):
            await unless_gone(self._send_all(scope, send), receive)

    async def _send_all(self, scope: Scope, send: Send) -> None:
        last = sse.encode(sse.DONE)
        ticking = asyncio.create_task(self._keep_alive(send)) if self.keep_alive else None
        if self.reply is not None and (shortcut := shortcut_of(scope)) is not None:
            self._passing = Passing(self.reply, shortcut)
            self.reply.offer_to(self._passing)
        async with aclosing(self.chunks) as chunks:
            try:
                async for come in chunks:
                    self._last = time.monotonic()
                    if not self._has_begun:
                        await self._begin(send)
                    await send({"type": "http.response.body", "body": b"".join(map(encode, come)), "more_body": True})
            except Exception as error:
                if not self._has_begun:
                    raise
                scope.setdefault("state", {})[FAILED] = True
                last = sse.encode(describe(error)) + last
            finally:
                if ticking is not None:
                    ticking.cancel()
        await self._send(send, last, more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        if not self._has_begun:
            await self._begin(send)
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _begin(self, send: Send) -> None:
        async with self._beginning:  # the first chunk and a comment may both want to
            if not self._has_begun:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                self._has_begun = True
                if self._passing is not None:
                    self._passing.shortcut.look()

    async def _keep_alive(self, send: Send) -> None:
        """Whenever nothing was sent for a while, send a comment, so that nobody between takes the stream for dead."""
        while True:
            last = self._last if self._passing is None else max(self._last, self._passing.last)
            rest = last + self.keep_alive - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
            else:
                self._last = time.monotonic()
                await self._send(send, KEEP_ALIVE)


async def unless_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What `work` gives; it is cancelled, and ClientGone raised, when the client leaves first.

    The task that asks does the work itself, and is cancelled as asyncio.timeout() would do it: with a task for each of
    the two, this took 22 us of a request's time, and takes 8.
    """
    own = asyncio.current_task()
    assert own is not None, "requests are answered in tasks"
    before, has_left = own.cancelling(), False

    async def watch() -> None:
        nonlocal has_left
        with suppress(Exception):  # a client of whom nothing can be heard has left too
            await _left(receive)
        has_left = True
        own.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except BaseException:
        if has_left and own.cancelling() == before + 1:  # else somebody else has cancelled it too
            raise ClientGone from None
        raise
    finally:
        watching.cancel()
        if has_left:
            own.uncancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
