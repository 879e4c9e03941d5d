"""Answers that outlive their connection: what each has sent, who may have it again, and for how long. It knows no HTTP.

An answer is written once and read any number of times, by each reader from a place of its own. It is kept while
somebody reads it and for a grace after that; one that nobody reads any more, and that is not complete, ends with it.
Where there is too little room, whoever has taken most of it makes some.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from quire_engine.errors import Overloaded
from quire_protocol.base import random_uuid

PIECE = 64
"""Bytes that a piece takes beside its own."""
AHEAD = 256 * 1024
"""Bytes that the writer of an answer may be ahead of its readers, where nobody can come back for them."""


class NoPlace(Overloaded):
    """As many answers are kept as may be, and none can be forgotten in favour of a new one."""


class Owned(NamedTuple):
    """A client's own name for a request."""

    owner: str
    """Who asks: nobody else finds the answer."""
    key: str


@dataclass(eq=False, slots=True)
class Reader:
    """Somebody who reads an answer."""

    place: int
    """How many pieces it has had."""


class KeptAnswer:
    """What one request was answered so far. Its writer writes it; only KeptAnswers says whether it is kept."""

    def __init__(self, owned: Owned, asked: bytes, name: str) -> None:
        self.owned = owned
        self.asked = asked
        """Digest of the request."""
        self.name = name
        """Stands in the ids of its events, so that no two answers have an id in common; it cannot be guessed."""
        self.head: Any = None
        """What goes before the pieces; None until it is there."""
        self.size = 0
        """Bytes of all its pieces."""
        self.is_ended = False
        self.error: Exception | None = None
        """What its writer met, after which nothing comes."""
        self.is_kept = True
        self.unread = asyncio.Event()
        """Set once nobody reads it any more, or ever will."""
        self.has_room = asyncio.Event()
        """Set unless its writer should wait for its readers; only one that is not kept any more ever should."""
        self.has_room.set()
        self.readers: list[Reader] = []
        self._pieces: list[bytes] = []
        self._held = 0
        self._dropped = 0
        self._news = asyncio.Event()

    @property
    def length(self) -> int:
        """How many pieces were written."""
        return self._dropped + len(self._pieces)

    def begin(self, head: Any) -> None:
        """Write what goes before the pieces."""
        self.head = head
        self._tell()

    def write(self, pieces: Sequence[bytes]) -> None:
        """Add pieces."""
        self._pieces += pieces
        added = _size(pieces)
        self.size += added
        self._held += added
        self.drop_what_was_read()
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; the first word on why counts."""
        if not self.is_ended:
            self.is_ended, self.error = True, error
            self.has_room.set()
            self._tell()

    async def begun(self) -> Any:
        """What goes before the pieces, once it is there. Raises what the writer met instead."""
        while self.head is None and not self.is_ended:
            await self._news.wait()
        if self.head is None:
            raise self.error or RuntimeError("an answer ended before it began")
        return self.head

    async def read(self, reader: Reader) -> bytes:
        """All that the reader has not had; empty at the end. Raises what the writer met, after the last piece."""
        while reader.place == self.length and not self.is_ended:
            await self._news.wait()
        found = b"".join(self._pieces[reader.place - self._dropped :])
        reader.place = self.length
        if not found and self.error is not None:
            raise self.error
        self.drop_what_was_read()
        return found

    def drop_what_was_read(self) -> None:
        """Of an answer that nobody can come back to, a piece that all its readers have had is of no use."""
        if self.is_kept:
            return
        read = min((reader.place for reader in self.readers), default=self.length) - self._dropped
        self._held -= _size(self._pieces[:read])
        del self._pieces[:read]
        self._dropped += read
        if self._held <= AHEAD or self.is_ended:
            self.has_room.set()
        else:
            self.has_room.clear()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class KeptAnswers:
    """The table of answers that can be had again, within bounds. Use it on one event loop.

    Where there is no room, the owner who has most of it makes some. Complete answers that nobody reads are forgotten
    first, the oldest before the others. Then, for want of bytes, the largest one is, and for want of a place for
    somebody else's, the newest: who reads it reads on, but nobody can come back to it.
    """

    def __init__(self, grace: float, most: int, most_bytes: int, new_name: Callable[[], str] = random_uuid) -> None:
        """`grace` is in seconds; `most` answers and `most_bytes` of them together are kept. Each gets a `new_name`."""
        self.grace = grace
        self.most = most
        self.most_bytes = most_bytes
        self.size = 0
        self._new_name = new_name
        self._answers: dict[Owned, KeptAnswer] = {}
        self._named: dict[tuple[str, str], KeptAnswer] = {}
        self._timers: dict[KeptAnswer, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, owned: Owned) -> KeptAnswer | None:
        """The answer to the request that its owner calls this."""
        return self._answers.get(owned)

    def named(self, owner: str, name: str) -> KeptAnswer | None:
        """The answer of this name, for its owner."""
        return self._named.get((owner, name))

    def begin(self, owned: Owned, asked: bytes) -> KeptAnswer:
        """Keep a new answer. NoPlace if there is none, nobody has more of them than its owner, and all are in use."""
        if len(self) >= self.most and not self._make_place(owned.owner):
            raise NoPlace(
                f"As many answers as this server keeps, {self.most} (--max-kept-answers), are being made or read: "
                "try again, or send the request without an Idempotency-Key.",
                retry_after=1.0,
            )
        answer = KeptAnswer(owned, asked, self._new_name())
        self._answers[owned] = self._named[owned.owner, answer.name] = answer
        return answer

    def write(self, answer: KeptAnswer, pieces: Sequence[bytes]) -> None:
        """Add pieces to an answer, and make room for them."""
        before = answer.size
        answer.write(pieces)
        if answer.is_kept:
            self.size += answer.size - before
        while self.size > self.most_bytes:
            self._make_room()

    def forget(self, answer: KeptAnswer) -> None:
        """Keep it no more. One that nobody reads ends."""
        if answer.is_kept:
            answer.is_kept = False
            del self._answers[answer.owned], self._named[answer.owned.owner, answer.name]
            self.size -= answer.size
            answer.drop_what_was_read()
            if not answer.readers:
                self._give_up(answer)

    @contextmanager
    def reading(self, answer: KeptAnswer, place: int) -> Iterator[Reader]:
        """Read an answer from a place on; the grace begins when the last reader has left."""
        if timer := self._timers.pop(answer, None):
            timer.cancel()
        reader = Reader(place)
        answer.readers.append(reader)
        try:
            yield reader
        finally:
            answer.readers.remove(reader)
            answer.drop_what_was_read()
            if not answer.readers:
                self._leave(answer)

    def _leave(self, answer: KeptAnswer) -> None:
        if answer.is_kept:
            loop = asyncio.get_running_loop()
            self._timers[answer] = loop.call_later(self.grace, self.forget, answer)
        else:
            self._give_up(answer)

    def _give_up(self, answer: KeptAnswer) -> None:
        if timer := self._timers.pop(answer, None):
            timer.cancel()
        answer.unread.set()

    def _make_place(self, owner: str) -> bool:
        """Forget an answer, so that there is a place for a new one of this owner; False if none is to be forgotten."""
        held = Counter([owner, *(each.owner for each in self._answers)])
        theirs = self._of_largest(held)
        given = _oldest_idle(theirs)
        if given is None and held[owner] < max(held.values()):
            given = theirs[-1]
        if given is not None:
            self.forget(given)
        return given is not None

    def _make_room(self) -> None:
        """Forget an answer, so that there are bytes for others."""
        sizes: Counter[str] = Counter()
        for each in self._answers.values():
            sizes[each.owned.owner] += each.size
        theirs = self._of_largest(sizes)
        self.forget(_oldest_idle(theirs) or max(theirs, key=lambda each: each.size))

    def _of_largest(self, shares: Counter[str]) -> list[KeptAnswer]:
        """The answers of whoever has the largest share, oldest first; of all who have, where several do."""
        most = max(shares.values())
        return [each for each in self._answers.values() if shares[each.owned.owner] == most]


def _oldest_idle(answers: Iterable[KeptAnswer]) -> KeptAnswer | None:
    """The first complete one that nobody reads."""
    return next((each for each in answers if each.is_ended and not each.readers), None)


def _size(pieces: Sequence[bytes]) -> int:
    """Bytes that these pieces take."""
    return sum(map(len, pieces)) + PIECE * len(pieces)
