"""The order of service: who is next in line, who gives way, who may take another's place. No torch."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import Protocol

from quire_engine.sequence import Sequence, Terms

Rank = Callable[[Sequence], int]
"""The class a sequence is served in: lower is earlier. Within a class the order of arrival decides."""

RANKS: Mapping[str, Rank] = {
    "fcfs": lambda sequence: 0,
    "priority": lambda sequence: sequence.priority,
}

Fits = Callable[[Seq[Sequence], Collection[Sequence]], bool]
"""Whether sequences in line could run together, once some of those that run have given way."""


class Line:
    """Sequences in order of service: the first is served first, the last gives way first."""

    def __init__(self, rank: Rank) -> None:
        self._sequences: list[Sequence] = []
        self._key: Callable[[Sequence], tuple[int, int]] = lambda sequence: (rank(sequence), sequence.arrival)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __reversed__(self) -> Iterator[Sequence]:
        return reversed(self._sequences)

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


class Order(Protocol):
    """Who is served when: two lines, and how they are read. The Scheduler moves sequences between them."""

    @property
    def waiting(self) -> Line:
        """Those who do not run; its `first` is let in next."""
        ...

    @property
    def running(self) -> Line:
        """Those who hold blocks."""
        ...

    def heads(self) -> Seq[Sequence]:
        """Those in line of whom one is next, whatever is computed meanwhile: the first now comes first."""
        ...

    def in_turn(self) -> Seq[Sequence]:
        """Those who run, in the order in which they have their share of a step."""
        ...

    def precedes(self, newcomer: Sequence, sequence: Sequence) -> bool:
        """Whether somebody in line begins before a running sequence has its share of the step, of several tokens."""
        ...

    def yielding(self, spared: Collection[Sequence]) -> Sequence:
        """Who gives way when blocks run out; not one of those `spared`, of whom somebody is left out."""
        ...

    def displaced(self, fits: Fits, most_tokens: int) -> Seq[Sequence]:
        """Who gives way to those who are next in line, as many of these as have `most_tokens` together."""
        ...

    def may_displace(self, newcomer: Sequence) -> bool:
        """Whether somebody may have to give way to a sequence in line, if not now then after the next token."""
        ...

    def enter(self, terms: Terms) -> None:
        """A request has come."""
        ...

    def leave(self, terms: Terms) -> None:
        """A request has ended."""
        ...

    def began(self, sequence: Sequence) -> None:
        """A sequence runs for the first time."""
        ...

    def drew(self, sequence: Sequence, tokens: int) -> None:
        """So many tokens were drawn for a sequence."""
        ...

    def computed(self, tokens: int) -> None:
        """A step computed so many tokens."""
        ...

    def lost(self, tokens: int) -> None:
        """So many must be computed again, as who had them was displaced."""
        ...


class Ranked:
    """By classes, and within one by arrival: first come, first served where there is one class. It counts nothing."""

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self.waiting = Line(rank)
        self.running = Line(rank)

    def heads(self) -> Seq[Sequence]:
        """The first in line."""
        return (self.waiting.first,) if self.waiting else ()

    def in_turn(self) -> Seq[Sequence]:
        """By class and arrival."""
        return tuple(self.running)

    def precedes(self, newcomer: Sequence, sequence: Sequence) -> bool:
        """Nobody does: who runs comes first."""
        return False

    def yielding(self, spared: Collection[Sequence]) -> Sequence:
        """The last one, which cannot be spared: that has its share of a step after all others."""
        return self.running.last

    def displaced(self, fits: Fits, most_tokens: int) -> Seq[Sequence]:
        """Those of lower classes than the first in line, the last ones first, until that fits."""
        gone: list[Sequence] = []
        for first in self.heads():
            for victim in reversed(self.running):
                if self.rank(first) >= self.rank(victim) or fits((first,), gone):
                    break
                gone.append(victim)
        return gone

    def may_displace(self, newcomer: Sequence) -> bool:
        """Whether it is of a better class than the last one that runs."""
        return bool(self.running) and self.rank(newcomer) < self.rank(self.running.last)

    def enter(self, terms: Terms) -> None:
        """Nothing to count."""

    def leave(self, terms: Terms) -> None:
        """Nothing to count."""

    def began(self, sequence: Sequence) -> None:
        """Nothing to count."""

    def drew(self, sequence: Sequence, tokens: int) -> None:
        """Nothing to count."""

    def computed(self, tokens: int) -> None:
        """Nothing to count."""

    def lost(self, tokens: int) -> None:
        """Nothing to count."""
