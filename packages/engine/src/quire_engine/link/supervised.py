"""A link that outlives its engine: one that ends by itself is started again, and goes on with what it was at.

    ready ── the engine ends by itself ──► restarting ──► ready      (too often: stopped)
      └──── sleep() ──► sleeping ── wake_up() ──► starting ──► ready

Whoever waits for reports sees a pause. What is to be told again, the journal knows; how engines are started, the link
below knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Literal, TypeAlias

from quire_engine.config import Decisions, EngineConfig, as_settled
from quire_engine.errors import EngineStopped
from quire_engine.link.base import Link, LinkStarter
from quire_engine.link.deaths import Deaths
from quire_engine.link.frames import Abort, Add, Command, Report
from quire_engine.link.journal import Journal

logger = logging.getLogger(__name__)

EngineState: TypeAlias = Literal["starting", "ready", "restarting", "sleeping", "stopped"]
"""starting: it is loaded, for the first time or after sleep. restarting: it ended by itself, and is loaded again.
stopped: for good."""

PAUSE = 1.0
"""Seconds before an engine is started once more where that has just failed; twice as many after two failures."""


class SupervisedLink:
    """Owns the link to the engine of the day. Whoever owns this one must always receive: that is what drives it."""

    def __init__(self, link: Link, config: EngineConfig, start: LinkStarter) -> None:
        """`start` gives further links like `link`, which is there already."""
        self.decisions: Decisions = link.decisions
        self.state: EngineState = "ready"
        self.restarts = 0
        """Times the engine had ended by itself and was started again."""
        self._config = as_settled(config, link.decisions)
        self._start_link = start
        self._limit = config.max_engine_deaths if link.is_replaceable else 1
        self._deaths = Deaths(self._limit, config.engine_death_window)
        """Engines that ended by themselves."""
        self._link: Link | None = link
        self._left: Link | None = None
        """The link to an engine that has ended, until it is closed."""
        self._next: asyncio.Task[Link] | None = None
        """The engine that is being started."""
        self._failed_starts = 0
        """How many in a row, since an engine ended by itself."""
        self._convictions = 0
        """Requests that were ended as those by which engines end, since one ended by nobody knows whom."""
        self._journal = Journal(config.seed, seats=link.decisions.max_num_seqs)
        self._news: deque[Report] = deque()
        """What came about without an engine, and was not received yet."""
        self._broken_at = 0.0
        """When there was an engine last."""
        self._is_wanted = True
        """Whether there is to be an engine; if not, it sleeps."""
        self._refusal: Exception | None = None
        """Why it could not be woken up."""
        self._turning = asyncio.Lock()
        """Held while it falls asleep or wakes up."""
        self._turned = asyncio.Event()
        """Set when the state changes; there is another one for each change."""
        self._stirred = asyncio.Event()
        """Set when something came about that is no report of an engine."""

    @classmethod
    async def start(cls, config: EngineConfig, start: LinkStarter, *, progress: bool = False) -> SupervisedLink:
        """Load the first engine. What is wrong with that is raised: only what has run once is started again."""
        return cls(await start(config, progress=progress), config, start)

    def send(self, command: Command) -> None:
        """Tell the engine something, or the one that comes after it. What cannot be sent raises, and is forgotten."""
        if self._link is None:
            self._tell(self._journal.note_without_engine(command))
            return
        noted = self._journal.note(command)
        try:
            self._link.send(noted)
        except Exception:
            if isinstance(noted, Add):
                self._journal.note(Abort(noted.submission.handle))
            raise

    async def receive(self) -> Report:
        """The next step's report, or what came about without an engine. EngineStopped once there will be none."""
        while not self._news:
            if self._link is None:
                await self._without_engine()
                continue
            try:
                return self._journal.hear(await self._link.receive())
            except EngineStopped as error:
                await self._bury(str(error), error.suspects)
        return self._news.popleft()

    async def until_turned(self) -> None:
        """Wait until the state is another one."""
        await self._turned.wait()

    async def sleep(self) -> None:
        """End the engine, which gives all of its memory back. Requests wait until it is woken up."""
        async with self._turning:
            self._is_wanted = False
            self._stirred.set()
            if self._link is not None:
                await self._link.close()
            await self._until("sleeping")

    async def wake_up(self) -> None:
        """Load the engine again; it goes on with the requests that wait.

        ConfigError or EngineStopped if it cannot be loaded, for want of memory, say: then it sleeps on.
        """
        async with self._turning:
            if self.state == "sleeping":
                self._is_wanted, self._refusal = True, None
                self._turn("starting")
                self._stirred.set()
            await self._until("ready", "sleeping")
            if self._refusal is not None:
                refusal, self._refusal = self._refusal, None
                raise refusal

    async def close(self) -> None:
        """End the engine, and wait until it is gone."""
        self._turn("stopped")
        if self._next is not None:  # then there is no other
            self._next.cancel()
            (started,) = await asyncio.gather(self._next, return_exceptions=True)
            self._link = None if isinstance(started, BaseException) else started
        for link in (self._link, self._left):
            if link is not None:
                await link.close()
        self._link = self._left = None  # not before: this may be broken off, and begun again

    async def _bury(self, reason: str, suspects: tuple[int, ...] = ()) -> None:
        """The engine has ended, perhaps by one of these requests."""
        link, self._link = self._link, None
        self._broken_at = monotonic()
        report = self._journal.broken_off(suspects if self._is_wanted else None)
        self._tell(report)
        if link is not None:
            await self._leave(link)
        if not self._is_wanted:
            return
        self._convictions = self._convictions + 1 if report.emissions else 0
        if report.emissions:
            reason += " The request by which it did has ended."
        if self._convictions == 1:
            self._begin_again(reason)
        else:  # one after the other is to blame: they hardly all are
            self._count_death(reason)

    async def _leave(self, link: Link) -> None:
        """Close a link; if this is broken off, close() does."""
        self._left = link
        await link.close()
        self._left = None

    async def _without_engine(self) -> None:
        """See to it that there is an engine again, if there is to be one; end who cannot wait so long."""
        if self._next is not None and self._next.done():
            await self._take_up(self._next)
        elif self._next is None and self._is_wanted:
            self._next = asyncio.create_task(self._started(self._failed_starts * PAUSE))
            self._next.add_done_callback(lambda _: self._stirred.set())
        else:
            if self._next is None:
                self._turn("sleeping")
            await self._wait(self._journal.next_deadline)
            overdue = self._journal.overdue(monotonic())
            if overdue.emissions:
                self._tell(overdue)

    async def _started(self, pause: float) -> Link:
        """Another engine, after a pause: what the last one held may not be free yet."""
        await asyncio.sleep(pause)
        return await self._start_link(self._config, progress=False)

    async def _take_up(self, starting: asyncio.Future[Link]) -> None:
        """Go on with an engine that was started, unless that failed or it is to sleep."""
        self._next = None
        try:
            link = starting.result()
        except Exception as error:
            if self.state == "starting":
                self._refusal, self._is_wanted = error, False
            else:
                self._failed_starts += 1
                self._count_death(f"The engine could not be started again: {error}")
            return
        self._failed_starts = 0
        if not self._is_wanted:
            await self._leave(link)
            return
        self._resume(link)
        self._link = link
        if self.state == "restarting":
            logger.warning("The engine is there again, after %.1f seconds.", monotonic() - self._broken_at)
        self._turn("ready")

    def _resume(self, link: Link) -> None:
        """Tell a new engine what is to be answered; what cannot be told ends."""
        for command in tuple(self._journal.resume()):
            try:
                link.send(command)
            except Exception as error:
                handle = command.submission.handle
                logger.exception("Request %d cannot be passed on to the engine, and is ended.", handle)
                self._tell(self._journal.refused(handle, error))

    def _count_death(self, reason: str) -> None:
        """An engine ended by itself, or did not start. EngineStopped if that happened too often."""
        if self._deaths.count(monotonic()):
            self._turn("stopped")
            raise EngineStopped(f"{reason} {self._deaths.verdict}" if self._limit > 1 else reason)
        self._begin_again(reason)

    def _begin_again(self, reason: str) -> None:
        logger.error("%s It is started again, and goes on with what it was at.", reason)
        self.restarts += 1
        self._turn("restarting")

    def _tell(self, report: Report) -> None:
        """Have something received that no engine reported."""
        self._news.append(report)
        self._stirred.set()

    async def _wait(self, deadline: float) -> None:
        """Until something comes about, or until this time on the clock."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if deadline == inf else deadline - monotonic()):
                await self._stirred.wait()
        self._stirred.clear()

    def _turn(self, state: EngineState) -> None:
        if state != self.state:
            self.state = state
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()

    async def _until(self, *states: EngineState) -> None:
        """Wait for one of these states. EngineStopped if none can come any more."""
        while self.state not in states:
            if self.state == "stopped":
                raise EngineStopped("The engine has ended.")
            await self._turned.wait()
