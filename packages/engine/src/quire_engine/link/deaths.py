"""How often something ended by itself of late, and whether that is too often to start it again. It starts nothing."""

from __future__ import annotations

from collections import deque


class Deaths:
    """Counts those within a window. `now` is on any clock that only goes forward, in seconds."""

    def __init__(self, limit: int, window: float) -> None:
        """`limit` of them within `window` seconds are too many."""
        self._limit = limit
        self._window = window
        self._times: deque[float] = deque()

    def count(self, now: float) -> bool:
        """One more; whether that makes too many."""
        self._times.append(now)
        while self._times[0] < now - self._window:
            self._times.popleft()
        return len(self._times) >= self._limit

    @property
    def verdict(self) -> str:
        """What is told where there were too many."""
        return f"That makes {len(self._times)} within {self._window:g} seconds: it is not started again."
