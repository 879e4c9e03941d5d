"""Who answers before the application can: /livez says yes, all else is asked to come back. It imports no framework."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from quire_protocol.errors import ERROR_TYPES

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

WAIT = 1
"""Seconds after which it is worth to ask again."""


class Entrance:
    """Stands in front of an application that is still being made, and steps aside for good when it is there."""

    def __init__(self) -> None:
        self._application: Application | None = None

    def open(self, application: Application) -> None:
        """From now on this one answers."""
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self._application is not None:
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            await (_alive(send) if path == "/livez" else _loading(send))


async def _alive(send: Send) -> None:
    await _answer(send, HTTPStatus.OK, b"", [])


async def _loading(send: Send) -> None:
    """503 in the envelope that every error has."""
    error = {
        "message": "The model is still being loaded; try again in a moment.",
        "type": ERROR_TYPES[HTTPStatus.SERVICE_UNAVAILABLE],
        "param": None,
        "code": HTTPStatus.SERVICE_UNAVAILABLE.value,
    }
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(WAIT).encode())]
    await _answer(send, HTTPStatus.SERVICE_UNAVAILABLE, json.dumps({"error": error}).encode(), headers)


async def _answer(send: Send, status: HTTPStatus, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status.value, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
