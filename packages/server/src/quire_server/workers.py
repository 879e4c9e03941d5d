"""`quire serve --api-server-count N`: this process has the engine and its hub, and others answer requests.

    clients ──► worker 1 ──┐
    clients ──► worker 2 ──┼── hub: gate, journal ──► the engine's process
    clients ──► worker N ──┘

A worker that ends by itself is started again, and what it was at is aborted; when that happens too often, the server
gives up. It knows neither HTTP nor text.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from quire_engine.config import EngineConfig
from quire_engine.errors import EngineStopped
from quire_engine.link.deaths import Deaths
from quire_engine.link.gated import GatedLink
from quire_engine.link.hub import Hub, Member
from quire_engine.link.process import ProcessLink, end_process, exit_words
from quire_server import report
from quire_server.__about__ import __version__
from quire_server.brief import PULSE, READY, REFUSED, REREAD, STOP, Brief
from quire_server.questions import Questions
from quire_server.reread import Reread
from quire_server.serve import LAST_BYTES, LAST_WORDS, Exit, Stop, announce, first_of, say
from quire_server.settings import ServerSettings

logger = logging.getLogger("quire")

PROMPTLY = 5.0
"""Seconds in which a worker should have heard something and said so."""
TICK = 1.0
"""Seconds between two looks at a worker that says nothing."""
SILENCE = 30.0
"""Seconds after which such a worker is taken to have hung."""
GRACE = 10.0
"""Seconds that a worker has to end by itself, beyond what it was given to finish in."""


async def serve_by_workers(config: EngineConfig, settings: ServerSettings, listener: socket.socket) -> int:
    """The engine's process and the workers at once; how serving ended, as an exit status."""
    began = time.perf_counter()
    name = report.model_name(config)
    say(f"quire {__version__}: loading {name}")
    stop, reread, hub = Stop(), Reread(), Hub(config)
    questions = Questions(hub, settings.names(name)[0])
    workers = Workers(hub, config, settings, listener, name)
    reread.add(lambda: workers.tell(REREAD))
    with stop.on_signals(), reread.on_signal():
        async with workers:
            progress = settings.log_format == "text"
            starting = asyncio.create_task(GatedLink.start(config, ProcessLink.start, progress=progress))
            link = await stop.unless_asked(starting)
            if link is None:
                return Exit.DONE
            await questions.begin(link)
            say(*report.lines(report.described(name, hub.decisions)))
            await first_of(workers.ready.wait(), stop.asked.wait(), hub.until_stopped(), workers.broken.wait())
            if workers.ready.is_set():
                gc.freeze()  # what is loaded stays: looking through it again and again would hold up every token
                say(*workers.formats, *report.lines(iter([("front", f"{settings.api_server_count} processes")])))
                announce(name, settings, listener, began)
            await first_of(stop.asked.wait(), hub.until_stopped(), workers.broken.wait())
            return await workers.wind_up(stop)


class Workers:
    """Starts the workers, and sees to it that they are there. Owns their processes, and closes the hub."""

    def __init__(
        self, hub: Hub, config: EngineConfig, settings: ServerSettings, listener: socket.socket, name: str
    ) -> None:
        self.ready = asyncio.Event()
        """Set once there has been an answering worker in every place."""
        self.broken = asyncio.Event()
        """Set where the workers cannot be what they are to be."""
        self.formats: list[str] = []
        """What the workers know of the form of answers, in lines."""
        self._hub = hub
        self._settings = settings
        self._listener = listener
        self._name = name
        self._deaths = Deaths(config.max_engine_deaths, config.engine_death_window)
        self._keepers: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._exits: list[int] = []
        """How the workers ended that were to end, or that were refused."""
        self._problem: str | None = None
        self._folder = TemporaryDirectory(prefix="quire-")  # this user's alone (0700)
        self._telling: set[asyncio.Task[object]] = set()
        hub.questions[READY] = self._hear_ready

    async def __aenter__(self) -> Self:
        self._keepers = [
            asyncio.create_task(self._keep(place), name=f"quire-worker-{place}")
            for place in range(self._settings.api_server_count)
        ]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_closing = True
        await self._hub.close()  # without it no worker goes on
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._folder.cleanup()

    def tell(self, topic: str) -> None:
        """Tell every worker something; nobody waits for it."""
        telling: asyncio.Task[object] = asyncio.create_task(
            self._hub.ask_all(topic, patience=PROMPTLY, of=self._hub.members)
        )
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def wind_up(self, stop: Stop) -> int:
        """Have the workers end as one that is asked to: what runs finishes, or is cut off. The worst of their ends.

        EngineStopped where the engine, or the workers themselves, were the reason.
        """
        self._is_closing = True
        patience = self._settings.shutdown_timeout if stop.asked.is_set() and not self.broken.is_set() else 0.0
        if any(member.handles for member in self._hub.members) and patience:
            say(f"stopping: what runs gets {patience:g} s to finish; a second signal cuts it off")
        self.tell(STOP)
        longest = patience + GRACE if patience else 0.0
        await first_of(asyncio.wait(self._keepers), stop.insisted.wait(), asyncio.sleep(longest))
        if not self._have_ended:
            self.tell(STOP)  # once more: what is left is cut off
            await first_of(asyncio.wait(self._keepers), asyncio.sleep(LAST_WORDS + LAST_BYTES + GRACE))
        if self._problem is not None:
            raise EngineStopped(self._problem)
        if self._hub.state == "stopped":
            raise EngineStopped(await self._hub.until_stopped())
        return self._worst()

    @property
    def _have_ended(self) -> bool:
        return all(keeper.done() for keeper in self._keepers)

    def _worst(self) -> int:
        """The exit status of all. A worker that was killed has cut off whom it answered."""
        if REFUSED in self._exits:
            return REFUSED
        if Exit.FAILED in self._exits:
            return Exit.FAILED
        return Exit.DONE if self._have_ended and not any(self._exits) else Exit.CUT_OFF

    async def _keep(self, place: int) -> None:
        """See to it that there is a worker in this place, until one ends that is to."""
        try:
            await self._keep_on(place)
        except Exception as error:
            logger.exception("A process that answers requests could not be started or watched.")
            self._problem = f"A process that answers requests could not be started or watched: {error}."
            self.broken.set()

    async def _keep_on(self, place: int) -> None:
        """The same; what goes wrong with that is raised."""
        while True:
            process, member = await self._start(place)
            if self._is_closing:
                process.kill()  # nobody has met it yet
            try:
                await first_of(process.wait(), member.has_left.wait(), self._until_silent(member))
                if not member.has_left.is_set() and process.returncode is None:
                    logger.error("A process that answers requests said nothing for %g seconds, and is ended.", SILENCE)
                    process.kill()
            finally:
                # One that has left the hub is of no use to anybody, even if it does not know.
                await end_process(process, grace=GRACE)
            code = process.returncode
            if self._is_closing or code == REFUSED:
                self._exits.append(Exit.CUT_OFF if code is None else code)
                self.broken.set()
                return
            if not self._may_begin_again(f"A process that answers requests has ended ({exit_words(process)})."):
                return

    async def _start(self, place: int) -> tuple[Process, Member]:
        """A new worker. It inherits the listener, and its end of a socket to the hub, under the numbers they have."""
        ours, theirs = socket.socketpair()
        with theirs:
            files = (self._listener.fileno(), theirs.fileno())
            command = (sys.executable, "-P", "-m", "quire_server.worker", *map(str, files))
            process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, pass_fds=files)
        brief = Brief(settings=self._settings, name=self._name, place=place, folder=Path(self._folder.name))
        return process, await self._hub.join(ours, brief.model_dump_json().encode())

    async def _until_silent(self, member: Member) -> None:
        """Wait until a worker that answers requests has hung: it says nothing, whatever it is asked."""
        while await self._says_something(member):
            await asyncio.sleep(TICK)

    async def _says_something(self, member: Member) -> bool:
        """Whether a worker answers in time; one that still loads has all the time that it takes.

        Time is counted in ticks of this process: while both are stopped, or the machine sleeps, none passes.
        """
        if not member.is_ready:
            return True
        asked = asyncio.create_task(member.peer.ask(PULSE))
        try:
            for _ in range(round(SILENCE / TICK)):
                done, _pending = await asyncio.wait((asked,), timeout=TICK)
                if done:
                    return True
            return False
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    def _may_begin_again(self, reason: str) -> bool:
        """Whether a worker is to be started again, another one having ended by itself now."""
        if not self._deaths.count(time.monotonic()):
            logger.error("%s It is started again; whom it answered has lost the connection.", reason)
            return True
        self._problem = f"{reason} {self._deaths.verdict}"
        self.broken.set()
        return False

    async def _hear_ready(self, member: Member, body: bytes) -> bytes:
        self.formats = json.loads(body)
        member.is_ready = True
        if sum(each.is_ready for each in self._hub.members) == self._settings.api_server_count:
            self.ready.set()
        return b""
