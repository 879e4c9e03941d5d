"""What a link to an engine offers, and the loop that an engine runs behind one. It knows no thread and no socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from quire_engine.config import Decisions, EngineConfig
from quire_engine.link.frames import Abort, Add, Command, Report, ResetPrefixCache, Stop

if TYPE_CHECKING:  # whoever talks to an engine elsewhere has none to import
    from quire_engine.engine import Engine


class Link(Protocol):
    """An engine that runs elsewhere, seen from the event loop."""

    @property
    def decisions(self) -> Decisions:
        """What was settled when the engine was loaded."""
        ...

    @property
    def is_replaceable(self) -> bool:
        """Whether another engine can take this one's place when it ends by itself: nothing of it is left then."""
        ...

    def send(self, command: Command) -> None:
        """Tell the engine something; it is heard before the next step."""
        ...

    async def receive(self) -> Report:
        """The next step's report. EngineStopped once the engine has ended."""
        ...

    async def close(self) -> None:
        """End the engine, and wait until it is gone."""
        ...


class LinkStarter(Protocol):
    """How a link comes to be; ThreadLink.start and ProcessLink.start are two."""

    def __call__(self, config: EngineConfig, *, progress: bool) -> Awaitable[Link]:
        """Load an engine at the other end. ConfigError if it cannot be served, EngineStopped if loading failed."""
        ...


class Pulse:
    """How far the loop of an engine has come, for a thread that looks on. Only the loop changes it."""

    def __init__(self) -> None:
        self.turn: int | None = None
        """The number of the turn that it is at; None while it waits for something to do."""
        self._turns = 0

    def go_on(self) -> None:
        """Another turn begins."""
        self._turns += 1
        self.turn = self._turns

    def rest(self) -> None:
        """There is nothing to do."""
        self.turn = None


def serve(
    engine: Engine, inbox: SimpleQueue[Command], report: Callable[[Report], None], pulse: Pulse | None = None
) -> None:
    """Run an engine until it is told to stop: hear the commands, compute a step, report it.

    As long as there is nothing to hear and nothing to compute, it may become faster.
    """
    pulse = pulse or Pulse()
    while True:
        pulse.go_on()
        while not engine.has_work and inbox.empty() and engine.improve():
            pulse.go_on()
        resets = 0
        if not engine.has_work and inbox.empty():
            pulse.rest()
        for command in hear(inbox, wait=not engine.has_work):
            pulse.go_on()
            match command:
                case Add(submission):
                    engine.add(submission)
                case Abort(handle, index):
                    engine.abort(handle, index)
                case ResetPrefixCache():
                    engine.reset_prefix_cache()
                    resets += 1
                case Stop():
                    return
        emissions = engine.step()
        report(Report(emissions, engine.stats(), resets, engine.progress))


def hear(inbox: SimpleQueue[Command], *, wait: bool) -> Iterator[Command]:
    """The commands that are there; with `wait`, at least one."""
    if wait:
        yield inbox.get()
    while not inbox.empty():
        yield inbox.get()
