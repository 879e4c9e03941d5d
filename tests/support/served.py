"""An application with an engine behind it, in this process: requests go in over httpx or plain ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
from fastapi import FastAPI
from tests.support.listening import listening

from quire_engine.async_engine import AsyncEngine
from quire_engine.config import EngineConfig
from quire_engine.stats import Stats
from quire_protocol import sse
from quire_server.app import attach, build_app
from quire_server.settings import ServerSettings

T = TypeVar("T")

MODEL = "tiny"
PATIENCE = 30.0
"""Seconds that any one thing may take."""


@dataclass(frozen=True)
class Served:
    """One engine, and the event loop that it lives on."""

    loop: asyncio.Runner
    engine: AsyncEngine

    def api(self, **settings: Any) -> Api:
        """An application with these settings in front of the engine."""
        asked = ServerSettings(**{"api_key": (), "served_model_name": (MODEL,)} | settings)
        app = build_app(asked)
        attach(app, self.engine, asked, MODEL)
        return Api(self, app, asked)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the loop do this."""
        return self.loop.run(asyncio.wait_for(work, PATIENCE))

    def until(self, reached: Callable[[Stats], bool]) -> None:
        """Wait until the engine stands like this."""

        async def wait() -> None:
            while not reached(self.engine.stats):
                await asyncio.sleep(0)

        self.run(wait())

    @contextmanager
    def aborting(self, choices: int) -> Iterator[None]:
        """Afterwards, wait until this many choices more have been aborted and nothing runs."""
        before = self.engine.stats.finished.get("abort", 0)
        yield
        self.until(lambda stats: stats.finished.get("abort", 0) == before + choices and not stats.running)


@contextmanager
def served(link: Literal["thread", "process"] = "thread", **config: Any) -> Iterator[Served]:
    """The embedded model in float32 and 2,048 tokens, on an engine in a thread of this process or in one of its own."""
    with asyncio.Runner() as loop:
        engine = loop.run(AsyncEngine.start(EngineConfig(**{"dtype": "float32", "max_model_len": 2048} | config), link))
        try:
            yield Served(loop, engine)
        finally:
            loop.run(engine.close())


@dataclass(frozen=True)
class Api:
    """An application as its clients see it."""

    served: Served
    app: FastAPI
    settings: ServerSettings
    root_path: str = ""
    """Where a proxy in front publishes the application."""

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, whatever the answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, root_path=self.root_path)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **options)

        return self.served.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET"""
        return self.request("GET", path, **options)

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a JSON body that must succeed."""
        answer = self.request("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refusal(self, path: str, **body: Any) -> dict[str, Any]:
        """The error of a JSON body that must not succeed: message, type, param and code."""
        answer = self.request("POST", path, json=body)
        assert answer.status_code >= 400, answer.text
        return error_of(answer)

    def stream(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The events of a stream that must end with [DONE]."""
        answer = self.request("POST", path, json={**body, "stream": True})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.text.endswith("data: [DONE]\n\n")
        return [event.json() for event in sse.decode(answer.text.splitlines(keepends=True))]

    def stream_by_connection(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The same from a socket, through a server's own connection: there, events take the shortcut."""

        async def send() -> str:
            async with (
                listening(self.app) as server,
                httpx.AsyncClient(base_url="http://{}:{}".format(*server.address)) as client,
            ):
                answer = await client.post(path, json={**body, "stream": True})
                assert answer.status_code == 200, answer.text
                return answer.text

        text = self.served.run(send())
        assert text.endswith("data: [DONE]\n\n")
        return [event.json() for event in sse.decode(text.splitlines(keepends=True))]

    def leave(self, path: str, body: Mapping[str, Any], *, after: int) -> int:
        """Send a request and go away after this many events (0: while waiting); how many events came at all."""
        return self.served.run(_leave(self.app, path, json.dumps(body).encode(), after))


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """What is in the one envelope that every error has."""
    content = answer.json()
    assert list(content) == ["error"]
    error: dict[str, Any] = content["error"]
    assert [member for member in error if member != "reason"] == ["message", "type", "param", "code"]
    assert error["code"] == answer.status_code
    assert error["type"]
    assert error["message"][-1] in ".!?"
    return error


async def _leave(app: FastAPI, path: str, body: bytes, after: int) -> int:
    left = asyncio.Event()
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    events = 0

    async def receive() -> Any:
        if messages:
            return messages.pop()
        if after:
            await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal events
        events += bool(message.get("body"))
        if events == after:
            left.set()
        await asyncio.sleep(0)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "root_path": ""}
    await app(scope, receive, send)
    return events
