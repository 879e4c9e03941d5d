"""Who answers before the application can: /livez says yes, all else is asked to come back. It imports no framework.

Later everybody passes here on the way to the application, and is counted until the answer is complete. Once the server
is about to end, those who were there by then are counted apart from those who still come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from quire_protocol.errors import ERROR_TYPES

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

WAIT = 1
"""Seconds after which it is worth to ask again."""


class Company:
    """Some of those whom the application answers, and whether any of them are left. Only an Entrance changes it."""

    def __init__(self) -> None:
        self._number = 0
        self._has_left = asyncio.Event()
        self._has_left.set()

    @property
    def is_empty(self) -> bool:
        """Whether all of them have been answered."""
        return not self._number

    async def until_empty(self) -> None:
        """Wait until all of them have been answered."""
        await self._has_left.wait()

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """One more is answered meanwhile."""
        self._number += 1
        self._has_left.clear()
        try:
            yield
        finally:
            self._number -= 1
            if self.is_empty:
                self._has_left.set()


class Entrance:
    """Stands in front of an application that is still being made, and lets everybody through once it is there."""

    def __init__(self) -> None:
        self._application: Application | None = None
        self._inside = Company()

    def open(self, application: Application) -> None:
        """From now on this one answers."""
        self._application = application

    def part(self) -> Company:
        """Those who are inside now. Whoever comes later is let through as before, but is not one of them."""
        before, self._inside = self._inside, Company()
        return before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self._application is not None:
            with self._inside.joined():
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
