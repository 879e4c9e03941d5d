"""An application in front of an engine that computes a step when the test says so, and never by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Any

from fastapi import FastAPI
from tests.support.served import MODEL, PATIENCE

from quire_engine.async_engine import AsyncEngine
from quire_engine.config import Decisions, EngineConfig
from quire_engine.engine import Engine
from quire_engine.link.base import hear
from quire_engine.link.frames import Abort, Add, Command, Report
from quire_protocol import sse
from quire_server.app import attach, build_app
from quire_server.dependencies import Serving
from quire_server.settings import ServerSettings


class SteppedLink:
    """A link whose engine lives on the event loop."""

    is_replaceable = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.decisions: Decisions = engine.decisions
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._reports: asyncio.Queue[Report] = asyncio.Queue()

    def send(self, command: Command) -> None:
        """It is heard before the next step."""
        self._inbox.put(command)

    async def receive(self) -> Report:
        """The next step's report."""
        return await self._reports.get()

    async def close(self) -> None:
        """End the engine."""
        self.engine.close()

    @property
    def is_told(self) -> bool:
        """Whether something is to be heard."""
        return not self._inbox.empty()

    def step(self) -> None:
        """Hear the commands that are there, and compute one step."""
        for command in hear(self._inbox, wait=False):
            match command:
                case Add(submission):
                    self.engine.add(submission)
                case Abort(handle, index):
                    self.engine.abort(handle, index)
        emissions = self.engine.step()
        self._reports.put_nowait(Report(emissions, self.engine.stats(), progress=self.engine.progress))


class Client:
    """One request to an application, as plain ASGI; it can go away."""

    def __init__(self, app: FastAPI, method: str, path: str, body: Mapping[str, Any] | None, **headers: str) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self._messages: list[Any] = [{"type": "http.request", "body": content, "more_body": False}]
        self._left = asyncio.Event()
        self.received: list[Any] = []
        sent = [(b"content-type", b"application/json")]
        sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": sent, "root_path": ""}
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def leave(self) -> None:
        """Go away."""
        self._left.set()

    async def answer(self) -> tuple[int, Any]:
        """Wait for the end: the status, and the JSON of the answer, or the list of a stream's events."""
        await self.task
        start = self.received[0]
        content = b"".join(message.get("body", b"") for message in self.received[1:])
        kind = dict(start["headers"]).get(b"content-type", b"")
        if kind.startswith(b"text/event-stream"):
            return start["status"], [event.json() for event in sse.decode(content.splitlines(keepends=True))]
        return start["status"], json.loads(content) if content else None

    def header(self, name: str) -> str | None:
        """A header of the answer."""
        found = dict(self.received[0]["headers"]).get(name.encode())
        return None if found is None else found.decode()

    async def _receive(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.received.append(message)


class Stepped:
    """The application, and the link to step."""

    def __init__(self, app: FastAPI, serving: Serving, link: SteppedLink) -> None:
        self.app = app
        self.serving = serving
        self.link = link

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Any:
        """A request that needs no step: the status, and the JSON of the answer."""
        return await Client(self.app, method, path, body, **headers).answer()

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Client:
        """Send a request; `x_request_timeout="3"` is a header."""
        return Client(self.app, "POST", path, body, **headers)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let the event loop run, without a step, until this is so."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await asyncio.sleep(0.001)

    async def step(self, count: int = 1) -> None:
        """Compute so many steps, and let everybody hear of them."""
        for _ in range(count):
            self.link.step()
            await asyncio.sleep(0)


@asynccontextmanager
async def stepped(engine_config: Mapping[str, Any] | None = None, **settings: Any) -> AsyncIterator[Stepped]:
    """The embedded model in float32."""
    config = EngineConfig(dtype="float32", **(engine_config or {}))
    link = SteppedLink(await asyncio.to_thread(Engine.load, config))

    async def start(_: EngineConfig, *, progress: bool) -> SteppedLink:
        return link

    engine = await AsyncEngine.start(config, start)
    asked = ServerSettings(**{"api_key": (), "served_model_name": (MODEL,)} | settings)
    app = build_app(asked)
    serving = attach(app, engine, asked, MODEL)
    try:
        yield Stepped(app, serving, link)
    finally:
        await engine.close()
