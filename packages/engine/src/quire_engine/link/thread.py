"""A link to an engine in a thread of this process: for embedding, and for tests."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import ConfigError, EngineStopped
from quire_engine.link.base import serve
from quire_engine.link.frames import Command, Report, Stop

if TYPE_CHECKING:
    from quire_engine.engine import Engine, EngineFactory

logger = logging.getLogger(__name__)


def load(config: EngineConfig, *, progress: bool) -> Engine:
    """Engine.load, which is imported only here: a link is there to be chosen also where no engine is wanted."""
    from quire_engine.engine import Engine

    return Engine.load(config, progress=progress)


class ThreadLink:
    """Hands commands to an engine's thread, and reports to the event loop that it was made on."""

    is_replaceable = False

    def __init__(self, decisions: Decisions, thread: EngineThread) -> None:
        self.decisions = decisions
        self._thread = thread

    @classmethod
    async def start(cls, config: EngineConfig, *, progress: bool = False, factory: EngineFactory = load) -> ThreadLink:
        """Load an engine in a thread of its own."""
        thread = EngineThread(config, progress, factory)
        thread.start()
        match await thread.outbox.get():
            case Decisions() as decisions:
                return cls(decisions, thread)
            case ConfigError() as refusal:
                raise refusal
            case cause:
                raise EngineStopped(f"The engine could not be loaded: {cause}")

    def send(self, command: Command) -> None:
        """Tell the engine something; it is heard before the next step."""
        self._thread.inbox.put(command)

    async def receive(self) -> Report:
        """The next step's report. EngineStopped once the engine has ended."""
        match await self._thread.outbox.get():
            case Report() as report:
                return report
            case cause:
                raise EngineStopped(f"The engine ended: {cause}")

    async def close(self) -> None:
        """End the engine, and wait until it is gone."""
        self.send(Stop())
        await asyncio.to_thread(self._thread.join)


class EngineThread(Thread):
    """Loads an engine and serves it. The event loop is woken once for each step."""

    def __init__(self, config: EngineConfig, progress: bool, factory: EngineFactory) -> None:
        super().__init__(name="quire-engine", daemon=True)
        self.inbox: SimpleQueue[Command] = SimpleQueue()
        self.outbox: asyncio.Queue[Decisions | Report | BaseException] = asyncio.Queue()
        """The decisions, then a report for each step; an exception is the last."""
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._progress = progress
        self._factory = factory

    def run(self) -> None:
        """Load, serve, end."""
        try:
            engine = self._factory(self._config, progress=self._progress)
            try:
                self._put(engine.decisions)
                serve(engine, self.inbox, self._put)
            finally:
                engine.close()
        except ConfigError as refusal:
            self._put(refusal)
        except BaseException as error:  # whatever it is, the event loop must hear of it
            logger.error("The engine ended.", exc_info=error)
            self._put(error)
        else:
            self._put(EngineStopped("it was closed"))

    def _put(self, item: Decisions | Report | BaseException) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self.outbox.put_nowait, item)
