"""Until when requests are worth an answer, in the order in which that ends. It knows handles and no clock."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import takewhile


class Deadlines:
    """The deadlines of unfinished requests, soonest first. Only the Scheduler changes it."""

    def __init__(self) -> None:
        self._soonest: list[tuple[float, int]] = []
        self._when: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._soonest)

    def add(self, handle: int, when: float) -> None:
        """A request that ends at `when`."""
        self._when[handle] = when
        insort(self._soonest, (when, handle))

    def discard(self, handle: int) -> None:
        """A request that has ended; those without a deadline are passed over."""
        when = self._when.pop(handle, None)
        if when is not None:
            del self._soonest[bisect_left(self._soonest, (when, handle))]

    def passed(self, now: float) -> list[int]:
        """The requests whose time is up."""
        return [handle for _, handle in takewhile(lambda each: each[0] <= now, self._soonest)]
