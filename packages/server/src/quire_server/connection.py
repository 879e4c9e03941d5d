"""One client's connection: how large and how slow the head of a request may be, and how long an answer may go unread.

It stands on uvicorn's own connection, and knows nothing of what is asked. What it ends:

    a connection too many                                           503
    a head that is larger than allowed, or not complete in time     431, 408
    what is not HTTP                                                400
    an answer that nobody reads                                     no answer: the connection goes, as if the client had

What a client sends behind a request that is still being answered spoils nothing: that answer is sent to its end, and
the connection ends with it where what came behind cannot be taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from quire_server.descriptors import most_connections
from quire_server.errors import envelope, error_answer
from quire_server.gathered import Gathered
from quire_server.settings import ServerSettings
from quire_server.shortcut import SHORTCUT, WRITER, shortcut_of

LINGER = 1.0
"""Seconds for which what a client still sends is thrown away, so that it can read why it was refused."""

AHEAD = 1 << 18
"""Bytes that a client may send behind requests that are not answered yet."""

LOOKS = 4
"""How often it is looked whether a client takes what is written, in the time that it has for that."""

TOLD = 32
"""Connections too many that are told so at a time; the others are just closed, as telling keeps them for a while."""


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
    """For how long a client that is written to may take nothing of it."""
    connections: int = 65_000
    """Most connections at once."""


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
        self._taken = 0
        """What the client had taken when it was last looked at, by `taken`."""
        self._looks_in_vain = 0
        """How often nothing more was taken since."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered, or was last; those behind it wait in uvicorn's pipeline."""
        self._ahead = 0
        """Received since there are any."""
        self._in_head = True
        self._began_in_head = True
        """Whether all of the piece that is being parsed is part of one head, as far as is known."""
        self._head_bytes = 0
        """Received of a head that is not complete."""
        self._reason: tuple[HTTPStatus, str] | None = None
        """Why the head is refused that is being parsed."""
        self.has_ended = False
        """Whether what still comes is thrown away."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, or say that there are too many clients."""
        super().connection_made(transport)
        self.transport: Gathered = Gathered(transport, self.loop)
        too_many = len(self.connections) - self.patience.connections
        if too_many > TOLD:
            self.has_ended = True
            transport.abort()
        elif too_many > 0:
            most = f"{self.patience.connections} clients are connected, the most that fit here (ulimit -n)"
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{most}; try again in a moment.", {"Retry-After": "1"})
        else:
            self._start_head_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks, and tell whoever answers."""
        self.has_ended = True
        self._stop_head_clock()
        self._stop_unread_clock()
        self._tell_that_it_is_over()  # uvicorn tells the last request that came, whether it runs or waits
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of what is sent."""
        if self.has_ended:
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
            self._look_at_what_waits(len(data))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field. Spaces behind its value are none of it (RFC 9110, section 5.5); the parser leaves them there."""
        super().on_header(name, value.rstrip(b" \t"))

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
            if self.scope["method"] != "HEAD":
                self.scope["extensions"] = {SHORTCUT: {WRITER: ChunkWriter(self.cycle, self.transport)}}
            if not self.pipeline:
                self._running = self.cycle

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

    def _look_at_what_waits(self, received: int) -> None:
        """Read on while requests wait behind one that runs: only so is it seen that the client leaves."""
        if not self.pipeline or self.has_ended:
            self._ahead = 0
            return
        self._ahead += received
        if self._ahead > AHEAD:
            self._end_behind_the_answer()
        else:
            self.flow.resume_reading()

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
        self._look_at_shortcut()
        if self.pipeline and not self.transport.is_closing():
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing() and self._is_unread:
            self._start_unread_clock()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._look_at_shortcut()
        self._start_unread_clock()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stop_unread_clock()
        super().resume_writing()
        self._look_at_shortcut()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: what is left of the last answer must be read in time now."""
        super().timeout_keep_alive_handler()
        if self._is_unread:
            self._start_unread_clock()

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _is_unread(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    @property
    def _too_many_bytes(self) -> tuple[HTTPStatus, str]:
        return _too_large(f"{self.patience.head_bytes} bytes (--h11-max-incomplete-event-size)")

    def _refuse(self, status: HTTPStatus, message: str, fields: Mapping[str, str] | None = None) -> None:
        """Say why, unless an answer is due or has begun on this connection, and end it."""
        self.has_ended = True
        self._stop_head_clock()
        if self._running is not None and self._is_answering:
            if not self._running.more_body:
                self._end_behind_the_answer()
                return
            if self._running.response_started:
                self.transport.close()
                return
            self._tell_that_it_is_over()  # its request was cut
        self.transport.write(_written(status, message, fields))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        # Closed at once, with more on its way from the client, the answer might be lost to it.
        self.transport.write_eof()
        self._stop_unread_clock()
        self._unread_clock = self._after(LINGER, self.transport.abort)

    def _end_behind_the_answer(self) -> None:
        """Parse no more, and end the connection with the answer that is due; what still comes is thrown away."""
        assert self._running is not None
        self.has_ended = True
        self.pipeline.clear()
        self._running.keep_alive = False
        self.flow.resume_reading()

    def _tell_that_it_is_over(self) -> None:
        """Let whoever works on the request that runs know that nobody is there."""
        if self._running is not None and self._is_answering:
            self._running.disconnected = True
            self._running.message_event.set()
            self._look_at_shortcut()

    def _look_at_shortcut(self) -> None:
        """Something has happened by which the shortcut of the request that runs may be free, or not."""
        if self._running is not None and (shortcut := shortcut_of(self._running.scope)) is not None:
            shortcut.look()

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
            self._taken, self._looks_in_vain = taken(self.transport), 0
            self._look_again()

    def _look_again(self) -> None:
        self._unread_clock = self._after(self.patience.unread_seconds / LOOKS, self._look_at_what_is_taken)

    def _look_at_what_is_taken(self) -> None:
        """A client that reads, however slowly, has time to go on."""
        before, self._taken = self._taken, taken(self.transport)
        self._looks_in_vain = 0 if self._taken > before else self._looks_in_vain + 1
        if self._looks_in_vain < LOOKS:
            self._look_again()
        else:
            self.transport.abort()

    def _stop_unread_clock(self) -> None:
        if self._unread_clock is not None:
            self._unread_clock.cancel()
            self._unread_clock = None

    def _after(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, act)


class ChunkWriter:
    """The Shortcut of one answer: writes pieces of its body as uvicorn's `send` does, where that would not wait."""

    __slots__ = ("_cycle", "_transport", "is_free", "written")

    def __init__(self, cycle: RequestResponseCycle, transport: Gathered) -> None:
        self._cycle = cycle
        self._transport = transport
        self.is_free = False
        """Whether it was when last looked at: the connection looks whenever that may have changed."""
        self.written = 0
        """Bytes of the body that went this way."""

    def look(self) -> None:
        """See whether the body has begun, in chunks, and somebody is there who reads as fast as it is written to."""
        cycle = self._cycle
        is_open = bool(cycle.chunked_encoding) and not cycle.response_complete
        self.is_free = is_open and not (cycle.flow.write_paused or cycle.disconnected)

    def write(self, body: bytes) -> None:
        """One chunk."""
        self.written += len(body)
        self._transport.write_now(b"%x\r\n%b\r\n" % (len(body), body))


def taken(transport: asyncio.Transport) -> int:
    """A number that grows while the client takes what is written to it, in bytes; it means nothing by itself.

    What leaves the transport may be megabytes at a time, as the system's own buffer has them, and TLS has one more.
    Linux therefore is asked what the other side has acknowledged.
    """
    return _acknowledged(transport.get_extra_info("socket")) - transport.get_write_buffer_size()


def _acknowledged(one: socket.socket) -> int:
    """Bytes that the other side of a TCP connection has acknowledged; 0 where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError, struct.error):
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        return int(struct.unpack_from("=Q", info, _ACKNOWLEDGED_AT)[0])
    return 0


_ACKNOWLEDGED_AT = 120
"""Where Linux has tcpi_bytes_acked in its struct tcp_info, since 4.1 (include/uapi/linux/tcp.h)."""


@dataclass(frozen=True, slots=True)
class ConnectionClass:
    """Makes connections that bear so much; uvicorn calls it as it would a class of its own."""

    patience: Patience

    def __call__(self, **given: Any) -> Connection:
        """A connection that is about to be made."""
        return Connection(self.patience, **given)


def patience_of(settings: ServerSettings) -> Patience:
    """What the settings ask of connections."""
    return Patience(
        head_bytes=settings.h11_max_incomplete_event_size,
        head_fields=settings.h11_max_header_count,
        head_seconds=settings.timeout_header,
        unread_seconds=settings.timeout_unread,
        connections=most_connections(),
    )


def _too_large(limit: str) -> tuple[HTTPStatus, str]:
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head of the request is larger than {limit}."


def _written(status: HTTPStatus, message: str, fields: Mapping[str, str] | None = None) -> bytes:
    """A refusal as it is sent."""
    answer = error_answer(envelope(message, status), {"Connection": "close", **(fields or {})})
    head = (name + b": " + value for name, value in answer.raw_headers)
    return b"\r\n".join((f"HTTP/1.1 {status.value} {status.phrase}".encode(), *head, b"", bytes(answer.body)))
