"""Who is told what becomes of an engine's requests, above the line: the seam for metrics, logs and traces."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

from quire_engine.errors import Overloaded
from quire_engine.sequence import Emission
from quire_engine.stats import Stats
from quire_engine.text.output import Output

if TYPE_CHECKING:
    from quire_engine.async_engine import RequestOutputs

Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Is called by an AsyncEngine on its event loop, as things happen. It must be quick, and must not raise."""

    def submitted(self, outputs: RequestOutputs) -> None:
        """A request was taken in: in the context of whoever submits it."""

    def refused(self, error: Overloaded) -> None:
        """A request was not taken in, as the line is full or its deadline cannot be met."""

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        """A choice has something new. `gap` is in seconds since its request's tokens before; None with the first."""

    def ended(self, outputs: RequestOutputs) -> None:
        """A request is over, once: its choices have finished, it failed (`error`), or nobody waits for it any more."""

    def stepped(self, stats: Stats) -> None:
        """The engine has computed a step, and stands like this."""

    def unclaimed(self, emission: Emission) -> None:
        """The engine emitted something for a request that is over."""


class Nobody:
    """An Observer that takes no notice."""

    def submitted(self, outputs: RequestOutputs) -> None:
        """Nothing."""

    def refused(self, error: Overloaded) -> None:
        """Nothing."""

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        """Nothing."""

    def ended(self, outputs: RequestOutputs) -> None:
        """Nothing."""

    def stepped(self, stats: Stats) -> None:
        """Nothing."""

    def unclaimed(self, emission: Emission) -> None:
        """Nothing."""


class Guarded:
    """Another Observer whose mistakes end nobody's request: the first thing that it raises is logged, no more."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._has_failed = False

    def submitted(self, outputs: RequestOutputs) -> None:
        """Pass it on."""
        self._tell(self._observer.submitted, outputs)

    def refused(self, error: Overloaded) -> None:
        """Pass it on."""
        self._tell(self._observer.refused, error)

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        """Pass it on; for every token, so without the detour of `_tell`."""
        try:
            self._observer.delivered(outputs, output, gap)
        except Exception:
            self._note_failure()

    def ended(self, outputs: RequestOutputs) -> None:
        """Pass it on."""
        self._tell(self._observer.ended, outputs)

    def stepped(self, stats: Stats) -> None:
        """Pass it on."""
        self._tell(self._observer.stepped, stats)

    def unclaimed(self, emission: Emission) -> None:
        """Pass it on."""
        self._tell(self._observer.unclaimed, emission)

    def _tell(self, listener: Callable[[*Ts], None], *what: *Ts) -> None:
        try:
            listener(*what)
        except Exception:
            self._note_failure()

    def _note_failure(self) -> None:
        if not self._has_failed:
            logger.exception("An observer of the engine failed. Whatever else it raises is not logged.")
        self._has_failed = True
