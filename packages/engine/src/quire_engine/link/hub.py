"""Several front ends on one engine: requests of all go through one gate, and each step's report is split among them.

It knows requests by their handles, and whose they are by the handle alone; neither what they ask for nor what is
computed. What front ends ask each other, whoever owns the hub answers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import count

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import EngineStopped
from quire_engine.link.frames import Abort, Add, Report, ResetPrefixCache
from quire_engine.link.gated import GatedLink
from quire_engine.link.peer import Admitted, Begin, Frame, Joined, Left, Over, Peer, PeerGone, Refused, State, Wrong
from quire_engine.link.supervised import EngineState
from quire_engine.sequence import Emission
from quire_engine.stats import Stats
from quire_engine.timing import Progress

logger = logging.getLogger(__name__)

HANDLE_BITS = 40
"""A handle is its front end's number and, in so many bits, the number that the front end gave the request."""

MOST_UNREAD = 64 << 20
"""Bytes that a front end may leave unread; one that leaves more has hung, and would fill the memory."""

Question = Callable[["Member", bytes], Awaitable[bytes]]
"""Answers what a member asks. What it raises is raised there."""


class Member:
    """One front end that shares the engine. Only the hub, and whoever owns that, change it."""

    def __init__(self, number: int, peer: Peer) -> None:
        self.number = number
        self.peer = peer
        self.is_ready = False
        """Whether it answers what it is asked; whoever owns the hub says so."""
        self.handles: set[int] = set()
        """Of its requests that have not ended."""
        self.has_left = asyncio.Event()
        """Set once nothing more comes from it."""


@dataclass(slots=True)
class Part:
    """One member's part of a report."""

    emissions: list[Emission] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    resets: int = 0


class Hub:
    """Owns the link to the engine once it is there, and one end of the socket to each member."""

    def __init__(self, config: EngineConfig) -> None:
        self.stats = Stats()
        """How the engine stood after its last step."""
        self.on_step: Callable[[Stats], None] = lambda stats: None
        """Is told of every step."""
        self.questions: dict[str, Question] = {"sleep": self._sleep, "wake_up": self._wake_up}
        """What members may ask, by topic."""
        self._config = config
        self._link: GatedLink | None = None
        self._stopped: str | None = None
        self._numbers = count(1)  # never given twice: a late word on a request of a member that has left is nobody's
        self._members: dict[int, Member] = {}
        self._resets: deque[Member] = deque()
        """Who asked for the prefix cache to be reset, in the order in which that was done."""
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    @property
    def link(self) -> GatedLink:
        """The link to the engine, which must be there."""
        assert self._link is not None, "the engine is not there yet"
        return self._link

    @property
    def decisions(self) -> Decisions:
        """What was settled when the engine was loaded."""
        return self.link.decisions

    @property
    def state(self) -> EngineState:
        """Whether there is an engine at this moment, and why not."""
        return self.link.state if self._stopped is None else "stopped"

    @property
    def restarts(self) -> int:
        """Times the engine had ended by itself and was started again."""
        return self.link.restarts

    @property
    def members(self) -> tuple[Member, ...]:
        """Who shares the engine now, the first who came first."""
        return tuple(self._members.values())

    def open(self, link: GatedLink) -> None:
        """The engine is there: it is shared from now on."""
        self._link = link
        for member in self.members:
            self._welcome(member)
        self._tasks = [asyncio.create_task(self._read(link)), asyncio.create_task(self._tell_states(link))]

    async def join(self, one: socket.socket, brief: bytes) -> Member:
        """One more front end, at the other end of this socket; `brief` is for whoever is above the link there."""
        peer, number = await Peer.over(one), next(self._numbers)
        member = self._members[number] = Member(number, peer)
        for topic, question in self.questions.items():
            peer.handlers[topic] = lambda body, question=question: question(member, body)  # type: ignore[misc]
        peer.send(Begin(self._config, brief))
        if self._link is not None:
            self._welcome(member)
        listening = asyncio.create_task(self._listen(member), name=f"quire-front-end-{number}")
        self._listening.add(listening)
        listening.add_done_callback(self._listening.discard)
        return member

    async def ask_all(
        self, topic: str, body: bytes = b"", *, patience: float, of: Collection[Member]
    ) -> list[tuple[Member, bytes]]:
        """What each of these answers; those are left out that have gone, or say nothing in `patience` seconds."""

        async def ask(member: Member) -> tuple[Member, bytes]:
            async with asyncio.timeout(patience):
                return member, await member.peer.ask(topic, body)

        told = await asyncio.gather(*map(ask, of), return_exceptions=True)
        for each in told:
            if isinstance(each, Exception) and not isinstance(each, PeerGone):
                logger.warning("A front end did not answer (%s): %s.", topic, each or type(each).__name__)
        return [each for each in told if not isinstance(each, BaseException)]

    async def until_stopped(self) -> str:
        """Wait until no request is answered any more, for good; says why."""
        await self._over.wait()
        assert self._stopped is not None, "it is over for a reason"
        return self._stopped

    async def close(self) -> None:
        """End the engine, and leave the members alone."""
        self._stop("The engine was closed.")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(member.peer.close() for member in self.members), return_exceptions=True)
        await asyncio.gather(*self._listening)
        if self._link is not None:
            await self._link.close()

    # --- up: from the engine to the members ---------------------------------------------------------------------------

    async def _read(self, link: GatedLink) -> None:
        """Pass reports on until the engine ends, or one cannot be passed on: then nobody would be answered any more."""
        try:
            while True:
                self._pass_on(await link.receive())
        except EngineStopped as error:
            self._stop(str(error))
        except Exception as error:
            logger.exception("A report of the engine could not be passed on, and the engine is ended.")
            self._stop(f"A report of the engine could not be passed on ({type(error).__name__}: {error}).")

    def _pass_on(self, report: Report) -> None:
        """Send each member its part of a report; who has none hears nothing."""
        self.stats = report.stats
        self.on_step(report.stats)
        for number, part in self._parts(report).items():
            if (member := self._members.get(number)) is not None:  # else it has left, and its requests are aborted
                member.peer.send(Report(part.emissions, report.stats, part.resets, part.progress))
                if member.peer.unsent > MOST_UNREAD:
                    logger.error("A front end reads nothing any more, and is given up.")
                    member.peer.abort()

    def _parts(self, report: Report) -> dict[int, Part]:
        """The members' parts, by their numbers."""
        parts: defaultdict[int, Part] = defaultdict(Part)
        for emission in report.emissions:
            parts[emission.handle >> HANDLE_BITS].emissions.append(emission)
        for progress in report.progress:
            parts[progress.handle >> HANDLE_BITS].progress.append(progress)
        for _ in range(report.resets):
            parts[self._resets.popleft().number].resets += 1
        return parts

    async def _tell_states(self, link: GatedLink) -> None:
        while True:
            await link.link.until_turned()
            self._tell_state(self.members)

    def _tell_state(self, members: Iterable[Member]) -> None:
        for member in members:
            member.peer.send(State(self.link.state, self.link.restarts))

    def _welcome(self, member: Member) -> None:
        """Let a member add requests."""
        first = member.number << HANDLE_BITS
        member.peer.send(Joined(self.link.decisions, self.link.state, self.link.restarts, first))
        if self._stopped is not None:
            member.peer.send(Over(self._stopped))

    def _stop(self, reason: str) -> None:
        """Nobody is answered any more."""
        if self._stopped is None:
            self._stopped = reason
            for member in self.members:
                member.peer.send(Over(reason))
            self._over.set()

    # --- down: from the members to the engine -------------------------------------------------------------------------

    async def _listen(self, member: Member) -> None:
        """Do what a member says until it leaves; what it was at then ends."""
        try:
            while True:
                await self._hear(member, await member.peer.receive())
        except PeerGone:
            pass
        except Exception:
            logger.exception("What a front end said could not be understood, and it is given up.")
            member.peer.abort()
        finally:
            self._leave(member)

    async def _hear(self, member: Member, frame: Frame) -> None:
        match frame:
            case Add(submission):
                try:
                    if self._stopped is not None:
                        raise EngineStopped(self._stopped)
                    await self.link.add(submission)
                except Exception as error:
                    member.peer.send(Refused(submission.handle, Wrong.of(error)))
                else:
                    member.handles.add(submission.handle)
                    member.peer.send(Admitted(submission.handle))
            case Abort():
                self.link.send(frame)
            case Left(handle, reasons, tokens):
                member.handles.discard(handle)
                if not reasons:  # nobody waits for it: a front end that ends says no more than this
                    self.link.send(Abort(handle))
                self.link.ended(handle, reasons, tokens)
            case ResetPrefixCache():
                self._resets.append(member)
                self.link.send(frame)
            case _:
                raise AssertionError(f"{type(frame).__name__} comes from a hub")

    def _leave(self, member: Member) -> None:
        """Nothing more comes from a member: end what it had asked for."""
        self._members.pop(member.number, None)
        for handle in member.handles:
            self.link.send(Abort(handle))
            self.link.ended(handle)
        member.handles.clear()
        member.peer.abort()
        member.has_left.set()

    async def _sleep(self, member: Member, body: bytes) -> bytes:
        await self.link.sleep()
        self._tell_state((member,))  # before the answer: who has that sees that it sleeps
        return b""

    async def _wake_up(self, member: Member, body: bytes) -> bytes:
        await self.link.wake_up()
        self._tell_state((member,))
        return b""
