"""What each HTTP request came to, kept from its first byte to its last, and handed to whoever tells of it.

It knows what an answer took and what it was made of, but neither metrics nor log lines nor spans. Requests to the
engine find the account that they belong to by the context in which they are made, so that no route can forget them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire_engine.timing import Timing
from quire_server.logs import REQUEST
from quire_server.reads import Reads
from quire_server.shortcut import shortcut_of
from quire_server.timings import combined, server_timing

if TYPE_CHECKING:
    from quire_engine.async_engine import RequestOutputs

METRICS = "metrics"
"""The preference by which a request asks how long its answer took."""

CLIENT_CLOSED_REQUEST = 499
"""The status that logs and metrics show for an answer that nobody waited for."""

UNKNOWN = "none"
"""The route of a request for which there is none."""


@dataclass(eq=False, slots=True)
class Account:
    """One HTTP request. Only the middleware and the functions here change it."""

    method: str
    path: str
    headers: Headers
    began: float
    """Seconds of time.monotonic()."""
    began_at: int
    """Nanoseconds since 1970."""
    route: str = UNKNOWN
    """The path as the route has it, without what stands in for its parameters."""
    status: int = 0
    """0 until the answer has begun; 499 in the end if its client had left before."""
    sent: int = 0
    """Bytes of the answer's body; until it is over, without those that take the shortcut."""
    ended: float | None = None
    """Seconds of time.monotonic()."""
    request_id: str = ""
    client: str = ""
    """The address that it came from; empty on a unix socket."""
    wants_metrics: bool = False
    """Whether the answer is to tell how long it took."""
    caller: str = ""
    """The name of the key; empty without keys."""
    reason: str | None = None
    """The `reason` of the error that it was told, if that has one."""
    has_failed: bool = False
    """Whether it was told of an error of the server's, be it within a stream."""
    reads: Reads = field(default_factory=Counter)
    """How often its answers were read for tool calls."""
    outputs: list[RequestOutputs] = field(default_factory=list)
    """What the engine was asked for, prompt by prompt."""

    @property
    def received(self) -> int:
        """Bytes of the request's body, as announced."""
        announced = self.headers.get("content-length", "")
        return int(announced) if announced.isdecimal() else 0

    @property
    def timing(self) -> Timing | None:
        """What the engine took for it, all prompts together; None if it was not asked."""
        return combined([each.timing for each in self.outputs])

    @property
    def finish_reasons(self) -> list[str]:
        """Of its choices that have finished, prompt by prompt."""
        return [reason for each in self.outputs for _, reason in sorted(each.finish_reasons.items())]

    @property
    def total(self) -> float:
        """Seconds that it took; so far, while it is answered."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def wall_clock(self, moment: float) -> int:
        """A moment of time.monotonic(), in nanoseconds since 1970."""
        return self.began_at + int((moment - self.began) * 1e9)


Reader = Callable[[Account], None]
"""Who is told of every request once it is over. It must be quick, and must not raise."""

_CURRENT: ContextVar[Account | None] = ContextVar("quire_account", default=None)


def account_of_this_request() -> Account | None:
    """The account of the HTTP request that is being served here; None outside of one."""
    return _CURRENT.get()


def note_outputs(outputs: RequestOutputs) -> None:
    """Let the HTTP request on whose behalf this was submitted know of it."""
    account = _CURRENT.get()
    if account is not None:
        account.outputs.append(outputs)


def reads_of_this_request() -> Reads:
    """Where to count what is read for tool calls; outside of an HTTP request, that is nowhere."""
    account = _CURRENT.get()
    return Counter() if account is None else account.reads


def note_reason(reason: str | None) -> None:
    """Remember why the request was refused, or its answer ended."""
    account = _CURRENT.get()
    if account is not None and reason is not None:
        account.reason = reason


def note_failure() -> None:
    """Remember that the answer ended by an error of the server's."""
    account = _CURRENT.get()
    if account is not None:
        account.has_failed = True


class Accounts:
    """Opens an account for each request, sends `Server-Timing` with its answer, and closes it when all is sent.

    It stands outside of everything else, so that refusals by other middlewares are told of too.
    """

    def __init__(self, app: ASGIApp, readers: Sequence[Reader], tells_metrics: bool = False) -> None:
        """`tells_metrics`: every answer is to tell how long it took, not only those that are asked to."""
        self.app = app
        self.readers = readers
        self.tells_metrics = tells_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        account = self.open(scope)
        token = _CURRENT.set(account)

        async def send_in_account(message: Message) -> None:
            if message["type"] == "http.response.start":
                account.status = message["status"]
                _tell_timing(account, MutableHeaders(scope=message))
            elif message["type"] == "http.response.body":
                account.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_in_account)
        except BaseException:
            account.status = account.status or 500
            raise
        finally:
            self.close(account, scope)
            _CURRENT.reset(token)

    def open(self, scope: Scope) -> Account:
        """The account of a request that has just come."""
        headers = Headers(scope=scope)
        return Account(
            scope["method"],
            scope["path"],
            headers,
            began=time.monotonic(),
            began_at=time.time_ns(),
            client=(scope.get("client") or ("",))[0],
            wants_metrics=self.tells_metrics or _prefers_metrics(headers),
        )

    def close(self, account: Account, scope: Scope) -> None:
        """Everything is sent, or nobody is there any more: complete the account, and hand it on."""
        state = scope.get("state", {})
        account.ended = time.monotonic()
        account.status = account.status or CLIENT_CLOSED_REQUEST
        if (shortcut := shortcut_of(scope)) is not None:
            account.sent += shortcut.written
        account.route = getattr(scope.get("route"), "path", UNKNOWN)
        account.request_id = state.get("request_id", "")
        account.caller = getattr(state.get("caller"), "name", "")
        REQUEST.set(account.request_id)
        for reader in self.readers:
            reader(account)


def _prefers_metrics(headers: Headers) -> bool:
    """Whether the client sent `Prefer: metrics` (RFC 7240)."""
    preferences = ",".join(headers.getlist("prefer")).split(",")
    return any(each.partition(";")[0].strip().lower() == METRICS for each in preferences)


def _tell_timing(account: Account, headers: MutableHeaders) -> None:
    """What the answer's headers say of how long it took, and will say."""
    headers["Server-Timing"] = server_timing(account.began, time.monotonic(), account.timing)
    if account.wants_metrics and account.outputs and account.status == HTTPStatus.OK:
        headers.append("Preference-Applied", METRICS)
