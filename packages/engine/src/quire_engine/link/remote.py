"""The way to an engine that several front ends share: through the hub of the process that has it. It knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from quire_engine.errors import EngineStopped
from quire_engine.link.frames import Abort, Add, Report, ResetPrefixCache
from quire_engine.link.gated import cannot_be_passed_on
from quire_engine.link.peer import Admitted, Joined, Left, Over, Peer, PeerGone, Refused, State
from quire_engine.link.supervised import EngineState
from quire_engine.sequence import FinishReason, Submission

GONE = "The process that has the engine is gone."


class RemoteLink:
    """An AdmittingLink to the engine behind a hub, gate and all. Owns its end of the socket."""

    def __init__(self, peer: Peer, joined: Joined) -> None:
        self.decisions = joined.decisions
        self.state: EngineState = joined.state
        self.restarts = joined.restarts
        self.first_handle = joined.first_handle
        self.peer = peer
        self._joining: dict[int, asyncio.Future[None]] = {}
        """Requests of which it is not known whether they are let in."""

    @classmethod
    async def over(cls, peer: Peer) -> RemoteLink:
        """Wait until the engine is there. EngineStopped if it will not be."""
        try:
            frame = await peer.receive()
        except PeerGone:
            raise EngineStopped(GONE) from None
        if isinstance(frame, Over):
            raise EngineStopped(frame.reason)
        assert isinstance(frame, Joined), "the hub says first that the engine is there"
        return cls(peer, frame)

    async def add(self, submission: Submission) -> None:
        """Have a request answered. Overloaded, RequestError or EngineStopped if that cannot be; then it is forgotten.

        Whoever waits here goes on before anything of the request is received.
        """
        handle = submission.handle
        decided = self._joining[handle] = asyncio.get_running_loop().create_future()
        try:
            self.peer.send(Add(submission))
            await decided
        except (OverflowError, TypeError, ValueError) as error:
            raise cannot_be_passed_on(error) from error
        except asyncio.CancelledError:
            self.peer.send(Abort(handle))
            self.ended(handle)
            raise
        finally:
            del self._joining[handle]

    def send(self, command: Abort | ResetPrefixCache) -> None:
        """Tell the engine something else; it is heard before the next step."""
        self.peer.send(command)

    def ended(self, handle: int, reasons: Collection[FinishReason] = (), tokens: int = 0) -> None:
        """A request has ended: for these reasons, with so many tokens, or because nobody waits for all of it."""
        self.peer.send(Left(handle, tuple(reasons), tokens))

    async def receive(self) -> Report:
        """What one step brought for the requests of this front end. EngineStopped once nothing more will come."""
        try:
            while True:
                match await self.peer.receive():
                    case Report() as report:
                        return report
                    case Admitted(handle):
                        await self._decide(handle)
                    case Refused(handle, wrong):
                        await self._decide(handle, wrong.error())
                    case State(state, restarts):
                        self.state, self.restarts = state, restarts
                    case Over(reason):
                        break
        except PeerGone:
            reason = GONE
        for decided in self._joining.values():
            if not decided.done():
                decided.set_exception(EngineStopped(reason))
        raise EngineStopped(reason)

    async def sleep(self) -> None:
        """End the engine, which gives all of its memory back. Requests wait until it is woken up."""
        await self._have_done("sleep")

    async def wake_up(self) -> None:
        """Load the engine again. ConfigError or EngineStopped if it cannot be: then it sleeps on."""
        await self._have_done("wake_up")

    async def close(self) -> None:
        """Leave the hub, which ends what this front end had asked for."""
        await self.peer.close()

    async def _decide(self, handle: int, error: Exception | None = None) -> None:
        """Let whoever adds a request know, and go on before the next frame is read: it may be of that request."""
        decided = self._joining.get(handle)
        if decided is None or decided.done():  # nobody waits for it any more
            return
        if error is None:
            decided.set_result(None)
        else:
            decided.set_exception(error)
        await asyncio.sleep(0)  # the loop runs in turn what is ready, and whoever waited has become so first

    async def _have_done(self, what: str) -> None:
        try:
            await self.peer.ask(what)
        except PeerGone:
            raise EngineStopped(GONE) from None
