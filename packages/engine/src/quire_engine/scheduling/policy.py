"""The order of service: who is next in line, who gives way, who may take another's place. No torch."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping

from quire_engine.config import SchedulingPolicy
from quire_engine.sequence import Sequence

Rank = Callable[[Sequence], int]
"""The class a sequence is served in: lower is earlier. Within a class the order of arrival decides."""

RANKS: Mapping[SchedulingPolicy, Rank] = {
    "fcfs": lambda sequence: 0,
    "priority": lambda sequence: sequence.priority,
}


class Line:
    """Sequences in order of service: the first is served first, the last gives way first."""

    def __init__(self, rank: Rank) -> None:
        self._sequences: list[Sequence] = []
        self._key: Callable[[Sequence], tuple[int, int]] = lambda sequence: (rank(sequence), sequence.arrival)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __contains__(self, sequence: Sequence) -> bool:
        place = bisect_left(self._sequences, self._key(sequence), key=self._key)
        return place < len(self._sequences) and self._sequences[place] is sequence

    @property
    def first(self) -> Sequence:
        """Who is served next."""
        return self._sequences[0]

    @property
    def last(self) -> Sequence:
        """Who gives way."""
        return self._sequences[-1]

    def join(self, sequence: Sequence) -> None:
        """Take the place that rank and arrival give."""
        insort(self._sequences, sequence, key=self._key)

    def leave(self, sequence: Sequence) -> None:
        """Give the place up."""
        place = bisect_left(self._sequences, self._key(sequence), key=self._key)
        assert self._sequences[place] is sequence, "a sequence left a line that it did not stand in"
        del self._sequences[place]
