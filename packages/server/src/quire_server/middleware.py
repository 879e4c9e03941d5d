"""What every request passes before a route sees it, as plain ASGI: its id, its key, the size of its body."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire_protocol.base import random_uuid
from quire_server.errors import envelope, error_answer

PUBLIC_PATHS = frozenset({"/health", "/livez", "/ping"})
"""Probes reach these without a key; every other path, known or not, needs one."""

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""A request id from a header: visible ASCII, of a length that fits a log line."""

USER_HEADER = "X-Quire-User"
_PLAIN = "!#$&'()*+,/:;=?@[]|"
"""Visible signs that stand for themselves in that header; what a header cannot hold is percent-encoded."""
_LONGEST_USER = 256


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


class ApiKeys:
    """Lets a request through that brings one of the keys as its bearer token, or asks for a public path."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self.app = app
        self.digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self.admits(scope)):
            return await self.app(scope, receive, send)
        refusal = envelope(
            "This server needs an API key: send it as `Authorization: Bearer <key>`.", HTTPStatus.UNAUTHORIZED
        )
        return await error_answer(refusal, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        """Whether the path is public or the key is known; every key is compared, in constant time."""
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        digest = _digest(token.strip())
        known = [hmac.compare_digest(digest, each) for each in self.digests]
        return _path(scope) in PUBLIC_PATHS or (scheme.lower() == "bearer" and any(known))


class BodyLimit:
    """Stops reading a body that is larger than `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limit:
            refusal = envelope(self.reason, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return await error_answer(refusal, {"Connection": "close"})(scope, receive, send)
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self.reason, {"Connection": "close"})
            return message

        return await self.app(scope, receive_within_limit, send)

    @property
    def reason(self) -> str:
        """Why a body is refused."""
        return f"The body is larger than {self.limit} bytes, the most this server reads (--max-body-bytes)."


def _path(scope: Scope) -> str:
    """The path as the router sees it: without the prefix that a proxy left on it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
