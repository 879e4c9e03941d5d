"""One client's connection: how large and how slow the head of a request may be, and how long an answer may go unread.

It stands on uvicorn's own connection, and knows nothing of what is asked. What it ends:

    a head that is larger than allowed, or not complete in time     431, 408
    what is not HTTP                                                400
    an answer that nobody reads                                     no answer: the connection goes, as if the client had
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from quire_server.errors import envelope, error_answer
from quire_server.settings import ServerSettings

LINGER = 1.0
"""Seconds for which what a client still sends is thrown away, so that it can read why it was refused."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What a connection bears."""

    head_bytes: int = 64 * 1024
    """Largest head of a request, its line and its header fields, in bytes."""
    head_fields: int = 256
    """Most header fields."""
    head_seconds: float = 20.0
    """Until when a head must be complete, from its first byte or from the beginning of the connection."""
    unread_seconds: float = 60.0
    """For how long what is written may wait to be read."""


class HeadRefused(Exception):
    """The head of a request is not what this server takes."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection, whose patience has an end."""

    def __init__(self, patience: Patience, **given: Any) -> None:
        super().__init__(**given)
        self.patience = patience
        self._head_clock: asyncio.TimerHandle | None = None
        """Runs while data comes that there is nothing to answer for yet."""
        self._unread_clock: asyncio.TimerHandle | None = None
        """Runs while more is written than the client takes."""
        self._in_head = True
        self._began_in_head = True
        """Whether all of the piece that is being parsed is part of one head, as far as is known."""
        self._head_bytes = 0
        """Received of a head that is not complete."""
        self._reason: tuple[HTTPStatus, str] | None = None
        """Why the head is refused that is being parsed."""
        self._has_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_head_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._has_ended = True
        self._stop_head_clock()
        self._stop_unread_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of what is sent."""
        if self._has_ended:
            return
        self._unset_keepalive_if_required()
        self._began_in_head = self._in_head
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stopped:
            self._stay_with_http(data[stopped.args[0] :])
        except HttpParserError:
            self._refuse(*(self._reason or (HTTPStatus.BAD_REQUEST, "What was sent is not a request in HTTP/1.1.")))
        else:
            self._look_at_head(len(data))

    def on_headers_complete(self) -> None:
        """Look at a head's size before anybody looks at what it says."""
        self._in_head = self._began_in_head = False
        self._head_bytes = 0
        if len(self.headers) > self.patience.head_fields:
            self._reason = _too_large(f"{self.patience.head_fields} fields (--h11-max-header-count)")
        elif len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.patience.head_bytes:
            self._reason = self._too_many_bytes
        elif self.parser.get_method() == b"CONNECT":
            self._reason = HTTPStatus.BAD_REQUEST, "This server opens no tunnels (CONNECT)."
        if self._reason is not None:
            raise HeadRefused  # for the parser an error like any other
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What follows a request is the head of the next."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
        self._in_head = True

    def _look_at_head(self, received: int) -> None:
        """Whether the head that is awaited is too large by now; keep its clock."""
        if self._began_in_head:
            self._head_bytes += received
            if self._head_bytes > self.patience.head_bytes:
                self._refuse(*self._too_many_bytes)
                return
        if self._is_answering:
            self._stop_head_clock()
        elif self._head_clock is None:
            self._start_head_clock()

    def _stay_with_http(self, rest: bytes) -> None:
        """Take a request that offers another protocol as if it had not; `rest` is what came behind its head.

        The parser leaves such a request at its head, and its body would be lost. Java's HTTP client, for one, offers
        HTTP/2 (`Upgrade: h2c`) with every first request. Nobody may send one before an earlier answer is there.
        """
        if self._is_answering:
            self._refuse(HTTPStatus.BAD_REQUEST, "A request that offers another protocol came before its turn.")
            return
        fields = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        kept = [word for name, value in self.headers if name == b"connection" for word in value.lower().split(b",")]
        fields.append((b"connection", b",".join(word for word in kept if word.strip() in (b"close", b"keep-alive"))))
        line = b" ".join((self.parser.get_method(), self.url, b"HTTP/" + self.parser.get_http_version().encode()))
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.data_received(b"\r\n".join((line, *(name + b": " + value for name, value in fields), b"", rest)))

    def on_response_complete(self) -> None:
        """Where the connection ends with this answer, let what is left of it be read in time."""
        super().on_response_complete()
        if self.transport.is_closing() and self._is_unread:
            self._start_unread_clock()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._start_unread_clock()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stop_unread_clock()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: an answer that is still unread by now will not be read."""
        if self._is_unread:
            self.transport.abort()
        super().timeout_keep_alive_handler()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_unread(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    @property
    def _too_many_bytes(self) -> tuple[HTTPStatus, str]:
        return _too_large(f"{self.patience.head_bytes} bytes (--h11-max-incomplete-event-size)")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Say why, unless an answer has begun on this connection, and end it."""
        self._has_ended = True
        self._stop_head_clock()
        if self._is_answering and self.cycle.response_started:
            self.transport.close()
            return
        if self._is_answering:
            self.cycle.disconnected = True  # its request was cut; whoever works on it is told so
            self.cycle.message_event.set()
        self.transport.write(_written(status, message))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        # Closed at once, with more on its way from the client, the answer might be lost to it.
        self.transport.write_eof()
        self._stop_unread_clock()
        self._unread_clock = self._after(LINGER, self.transport.abort)

    def _head_is_late(self) -> None:
        if self._head_bytes:
            seconds = f"{self.patience.head_seconds:g}"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The head was not complete after {seconds} s (--timeout-header).")
        else:  # nothing was asked: there is nobody to tell
            self.transport.close()

    def _start_head_clock(self) -> None:
        self._head_clock = self._after(self.patience.head_seconds, self._head_is_late)

    def _stop_head_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    def _start_unread_clock(self) -> None:
        if self._unread_clock is None:
            self._unread_clock = self._after(self.patience.unread_seconds, self.transport.abort)

    def _stop_unread_clock(self) -> None:
        if self._unread_clock is not None:
            self._unread_clock.cancel()
            self._unread_clock = None

    def _after(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, act)


def connection_class(settings: ServerSettings) -> type[asyncio.Protocol]:
    """What makes connections under these settings; uvicorn calls it as it would a class of its own."""
    return cast("type[asyncio.Protocol]", partial(Connection, patience_of(settings)))


def patience_of(settings: ServerSettings) -> Patience:
    """What the settings ask of connections."""
    return Patience(
        head_bytes=settings.h11_max_incomplete_event_size,
        head_fields=settings.h11_max_header_count,
        head_seconds=settings.timeout_header,
        unread_seconds=settings.timeout_unread,
    )


def _too_large(limit: str) -> tuple[HTTPStatus, str]:
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head of the request is larger than {limit}."


def _written(status: HTTPStatus, message: str) -> bytes:
    """A refusal as it is sent."""
    answer = error_answer(envelope(message, status), {"Connection": "close"})
    fields = (name + b": " + value for name, value in answer.raw_headers)
    return b"\r\n".join((f"HTTP/1.1 {status.value} {status.phrase}".encode(), *fields, b"", bytes(answer.body)))
