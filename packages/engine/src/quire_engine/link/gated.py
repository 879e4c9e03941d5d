"""A link with a gate in front: whom the gate lets in is passed on, and it learns from what comes back. No socket.

What an AsyncEngine asks of the way to its engine stands here too, as there is another one: through a hub.
"""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic
from typing import Protocol

from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import RequestError
from quire_engine.gate import Gate
from quire_engine.link.base import LinkStarter
from quire_engine.link.frames import Abort, Add, Report, ResetPrefixCache
from quire_engine.link.supervised import EngineState, SupervisedLink
from quire_engine.sequence import FinishReason, Submission


class AdmittingLink(Protocol):
    """The way to an engine that lasts as long as requests are answered, and lets them in or refuses them.

    Whoever owns one must always receive: that is what drives it.
    """

    @property
    def decisions(self) -> Decisions:
        """What was settled when the engine was loaded."""
        ...

    @property
    def state(self) -> EngineState:
        """Whether there is an engine at this moment, and why not."""
        ...

    @property
    def restarts(self) -> int:
        """Times the engine had ended by itself and was started again."""
        ...

    @property
    def first_handle(self) -> int:
        """The handle of the first request that comes this way; those of the others follow."""
        ...

    async def add(self, submission: Submission) -> None:
        """Have a request answered. Overloaded, RequestError or EngineStopped if that cannot be; then it is forgotten.

        Nothing of it is reported before this returns.
        """
        ...

    def send(self, command: Abort | ResetPrefixCache) -> None:
        """Tell the engine something else; it is heard before the next step."""
        ...

    def ended(self, handle: int, reasons: Collection[FinishReason], tokens: int) -> None:
        """A request has ended: for these reasons, with so many tokens, or because nobody waits for all of it."""
        ...

    async def receive(self) -> Report:
        """What came about since. EngineStopped once nothing more will."""
        ...

    async def sleep(self) -> None:
        """End the engine, which gives all of its memory back. Requests wait until it is woken up."""
        ...

    async def wake_up(self) -> None:
        """Load the engine again. ConfigError or EngineStopped if it cannot be: then it sleeps on."""
        ...

    async def close(self) -> None:
        """Leave the engine; whoever owns it ends it, and waits until it is gone."""
        ...


class GatedLink:
    """An AdmittingLink to an engine that belongs to this process. Owns the gate and the link behind it."""

    first_handle = 0

    def __init__(self, link: SupervisedLink) -> None:
        self.decisions = link.decisions
        self.link = link
        self.gate = Gate(link.decisions)

    @classmethod
    async def start(cls, config: EngineConfig, start: LinkStarter, *, progress: bool = False) -> GatedLink:
        """Load the first engine; what is wrong with that is raised."""
        return cls(await SupervisedLink.start(config, start, progress=progress))

    @property
    def state(self) -> EngineState:
        """Whether there is an engine at this moment, and why not."""
        return self.link.state

    @property
    def restarts(self) -> int:
        """Times the engine had ended by itself and was started again."""
        return self.link.restarts

    async def add(self, submission: Submission) -> None:
        """Have a request answered. Overloaded or RequestError if that cannot be."""
        now = monotonic()
        self.gate.join(submission.handle, submission.request, submission.terms, now)
        try:
            self.link.send(Add(submission))
        except (OverflowError, TypeError, ValueError) as error:
            self.gate.ended(submission.handle, now)
            raise cannot_be_passed_on(error) from error

    def send(self, command: Abort | ResetPrefixCache) -> None:
        """Tell the engine something else; it is heard before the next step."""
        self.link.send(command)

    def ended(self, handle: int, reasons: Collection[FinishReason] = (), tokens: int = 0) -> None:
        """A request has ended: for these reasons, with so many tokens, or because nobody waits for all of it."""
        self.gate.ended(handle, monotonic(), reasons, tokens)

    async def receive(self) -> Report:
        """The next step's report, or what came about without an engine. EngineStopped once there will be none."""
        report = await self.link.receive()
        for progress in report.progress:
            self.gate.began(progress.handle)
        self.gate.observe(report.stats)
        return report

    async def sleep(self) -> None:
        """End the engine, which gives all of its memory back. Requests wait until it is woken up."""
        await self.link.sleep()

    async def wake_up(self) -> None:
        """Load the engine again. ConfigError or EngineStopped if it cannot be: then it sleeps on."""
        await self.link.wake_up()

    async def close(self) -> None:
        """End the engine, and wait until it is gone."""
        await self.link.close()


def cannot_be_passed_on(error: Exception) -> RequestError:
    """What is wrong with a request that has no form in which it could cross a link."""
    return RequestError(f"The request cannot be passed on to the engine: {error}.")
