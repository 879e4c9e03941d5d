"""Who answers before the application can: /livez says yes, all else is asked to come back. It imports no framework.

Later everybody passes here on the way to the application, and is counted until the answer is complete.
"""

from __future__ import annotations

import asyncio
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
    """Stands in front of an application that is still being made, and lets everybody through once it is there."""

    def __init__(self) -> None:
        self._application: Application | None = None
        self._inside = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def open(self, application: Application) -> None:
        """From now on this one answers."""
        self._application = application

    @property
    def is_empty(self) -> bool:
        """Whether nobody is being answered by the application."""
        return not self._inside

    async def until_empty(self) -> None:
        """Wait until the application has answered everybody."""
        await self._is_empty.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self._application is not None:
            await self._let_through(self._application, scope, receive, send)
        elif scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            await (_alive(send) if path == "/livez" else _loading(send))

    async def _let_through(self, application: Application, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        self._is_empty.clear()
        try:
            await application(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._is_empty.set()


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
