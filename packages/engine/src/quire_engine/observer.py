"""Who is told what becomes of an engine's requests, above the line: the seam for metrics, logs and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from quire_engine.errors import Overloaded
from quire_engine.sequence import Emission
from quire_engine.stats import Stats
from quire_engine.text.output import Output

if TYPE_CHECKING:
    from quire_engine.async_engine import RequestOutputs


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
