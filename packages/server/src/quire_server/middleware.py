"""What every request passes before a route sees it, as plain ASGI: its id, its key, the size of its body."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from urllib.parse import quote

from starlette import status
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire_protocol.base import random_uuid
from quire_server.errors import envelope, error_answer
from quire_server.hosts import Hosts
from quire_server.keys import ANYONE, Caller, Keys
from quire_server.logs import REQUEST

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health"})
"""Probes reach these without a key; every other path, known or not, needs one."""

NEEDS_KEY = "This server needs an API key: send it as `Authorization: Bearer <key>`."
WANTS_KEY = {"WWW-Authenticate": "Bearer"}
STRANGE_HOST = (
    "This server answers its own machine, and the request calls it by another name (Host): ask localhost, or start it "
    "with --allowed-hosts and that name, or with --api-key."
)

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""A request id from a header: visible ASCII, of a length that fits a log line."""

USER_HEADER = "X-Quire-User"
_PLAIN = "!#$&'()*+,/:;=?@[]|"
"""Visible signs that stand for themselves in that header; what a header cannot hold is percent-encoded."""
_LONGEST_USER = 256

SLOWEST = 1024
"""Bytes a second that a body must come with in the long run."""

LONGEST_BODY = 600.0
"""Seconds for which a body may come at most, unless `patience` itself is longer."""


class RequestIds:
    """Gives each request an id (its own X-Request-Id, if usable) and sends it back with the answer.

    The id stands in the request's state: `request_id`, and under `request_id_given` whether the client chose it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        state = scope.setdefault("state", {})
        state["request_id_given"] = REQUEST_ID.fullmatch(given) is not None
        state["request_id"] = given if state["request_id_given"] else random_uuid()
        REQUEST.set(state["request_id"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = state["request_id"]
            await send(message)

        return await self.app(scope, receive, send_with_id)


class AnswerHeaders:
    """Sends with an answer, a refusal too, what was put into the request's state under `answer_headers`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers: dict[str, str] = {}
        scope.setdefault("state", {})["answer_headers"] = headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        return await self.app(scope, receive, send_with_headers)


def handles_strictly(http: Request) -> bool:
    """Whether the client wants strict handling (`Prefer: handling=strict`); asking means that it is done."""
    preferences = ",".join(http.headers.getlist("prefer")).split(",")
    pairs = (preference.partition(";")[0].partition("=") for preference in preferences)
    wanted = [value.strip().strip('"').lower() for name, _, value in pairs if name.strip().lower() == "handling"]
    is_strict = wanted[:1] == ["strict"]  # of a preference that is given twice, the first counts
    if is_strict:
        http.state.answer_headers["Preference-Applied"] = "handling=strict"
    return is_strict


def name_user(http: Request, user: str) -> None:
    """Send the client's own name for its user back, so that the access log of a proxy in front can tell who asked."""
    http.state.answer_headers[USER_HEADER] = quote(user[:_LONGEST_USER], safe=_PLAIN)


class Guard:
    """Lets a request through that brings a key, or asks for a public path; all else is refused, routes or not.

    Where nobody needs a key, the name may matter by which a request calls the server. Who asks stands in the request's
    state under `caller`, a `Caller`.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, public_paths: Iterable[str] = PUBLIC_PATHS, hosts: Hosts | None = None
    ) -> None:
        """`hosts` judges requests without a key; None lets them have any."""
        self.app = app
        self.keys = keys
        self.public_paths = frozenset(public_paths)
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        caller = self.caller(scope)
        if caller is None:
            return await _refuse(scope, receive, send, NEEDS_KEY, HTTPStatus.UNAUTHORIZED, WANTS_KEY)
        if caller is ANYONE and self.is_misled(scope):
            return await _refuse(scope, receive, send, STRANGE_HOST, HTTPStatus.FORBIDDEN)
        scope.setdefault("state", {})["caller"] = caller
        return await self.app(scope, receive, send)

    def is_misled(self, scope: Scope) -> bool:
        """Whether a name led here that should not have."""
        if self.hosts is None or _path(scope) in self.public_paths:
            return False
        return not self.hosts.admit([value.decode("latin-1") for name, value in scope["headers"] if name == b"host"])

    def caller(self, scope: Scope) -> Caller | None:
        """Who asks; None for whoever may not come in."""
        caller = self.keys.caller(bearer_token(scope))
        if caller is None and (self.keys.admits_anyone or _path(scope) in self.public_paths):
            return ANYONE
        return caller


def caller_of(http: HTTPConnection) -> Caller:
    """Who asks: the Caller that the guard let in."""
    caller: Caller = http.state.caller
    return caller


async def _refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    reason: str,
    code: HTTPStatus,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Say why, also for a WebSocket where the server can; else its handshake is refused."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": status.WS_1008_POLICY_VIOLATION})
    return await error_answer(envelope(reason, code), headers)(scope, receive, send)


class BodyLimit:
    """Reads a body to at most `limit` bytes, and not for ever.

    It must be there `patience` seconds after the request, and a second later for each SLOWEST bytes of it that are, but
    in LONGEST_BODY.
    """

    def __init__(self, app: ASGIApp, limit: int, patience: float = 30.0) -> None:
        self.app = app
        self.limit = limit
        self.patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limit:
            return await error_answer(envelope(self.reason, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))(scope, receive, send)
        began, read, is_whole = time.monotonic(), 0, False

        async def receive_within_limit() -> Message:
            nonlocal read, is_whole
            if is_whole:  # what is waited for now is that the client leaves
                return await receive()
            try:
                patience = max(self.patience, min(self.patience + read / SLOWEST, LONGEST_BODY))
                async with asyncio.timeout(began + patience - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, self.too_slow, {"Connection": "close"}) from None
            read += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if read > self.limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self.reason)
            return message

        return await self.app(scope, receive_within_limit, send)

    @property
    def reason(self) -> str:
        """Why a body is refused."""
        return f"The body is larger than {self.limit} bytes, the most this server reads (--max-body-bytes)."

    @property
    def too_slow(self) -> str:
        """Why a body is not waited for any longer."""
        allowed = f"{self.patience:g} s and a second per {SLOWEST} bytes, {LONGEST_BODY:g} s at most"
        return f"The body was not there after {allowed} (--timeout-body)."


def _path(scope: Scope) -> str:
    """The path as the router sees it: without the prefix of `--root-path`, which uvicorn has put before it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def bearer_token(scope: Scope) -> bytes:
    """What is sent as the bearer token; empty when nothing is, or more than one thing."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
    return bytes(token.strip()) if scheme.lower() == b"bearer" else b""
