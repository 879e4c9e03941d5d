"""Answers that outlive their connection: what each has sent, who may have it again, and for how long. It knows no HTTP.

An answer is written once and read any number of times, by each reader from a place of its own. It is kept while
somebody reads it and for a grace after that; one that nobody reads any more, and that is not complete, ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from quire_engine.errors import Overloaded
from quire_protocol.base import random_uuid

PIECE = 64
"""Bytes that a piece takes beside its own."""


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

    def __init__(self, owned: Owned, asked: bytes) -> None:
        self.owned = owned
        self.asked = asked
        """Digest of the request."""
        self.name = random_uuid()
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
        self.readers: list[Reader] = []
        self._pieces: list[bytes] = []
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
        self.size += sum(map(len, pieces)) + PIECE * len(pieces)
        self._drop_what_was_read()
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; the first word on why counts."""
        if not self.is_ended:
            self.is_ended, self.error = True, error
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
        self._drop_what_was_read()
        return found

    def _drop_what_was_read(self) -> None:
        """Of an answer that nobody can come back to, a piece that all its readers have had is of no use."""
        if not self.is_kept:
            read = min((reader.place for reader in self.readers), default=self.length)
            del self._pieces[: read - self._dropped]
            self._dropped = read

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class KeptAnswers:
    """The table of answers that can be had again, within bounds. Use it on one event loop.

    Where there is no room, complete answers that nobody reads are forgotten first, the oldest before the others; then
    the largest one is: who reads it reads on, but nobody can come back to it.
    """

    def __init__(self, grace: float, most: int, most_bytes: int) -> None:
        """`grace` is in seconds; `most` answers and `most_bytes` of them together are kept."""
        self.grace = grace
        self.most = most
        self.most_bytes = most_bytes
        self.size = 0
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
        """Keep a new answer. Overloaded if as many as may be kept are all still being made or read."""
        if len(self) >= self.most and not self._forget_complete():
            raise Overloaded(
                f"{self.most} answers with an Idempotency-Key are being made, the most this server keeps "
                "(--max-kept-answers): try again, or send the request without one.",
                retry_after=1.0,
            )
        answer = KeptAnswer(owned, asked)
        self._answers[owned] = self._named[owned.owner, answer.name] = answer
        return answer

    def write(self, answer: KeptAnswer, pieces: Sequence[bytes]) -> None:
        """Add pieces to an answer, and make room for them."""
        before = answer.size
        answer.write(pieces)
        if answer.is_kept:
            self.size += answer.size - before
        while self.size > self.most_bytes:
            if not self._forget_complete():
                self.forget(max(self._answers.values(), key=lambda each: each.size))

    def forget(self, answer: KeptAnswer) -> None:
        """Keep it no more. One that nobody reads ends."""
        if answer.is_kept:
            answer.is_kept = False
            del self._answers[answer.owned], self._named[answer.owned.owner, answer.name]
            self.size -= answer.size
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

    def _forget_complete(self) -> bool:
        """Forget the oldest complete answer that nobody reads; False if there is none."""
        complete = (each for each in self._answers.values() if each.is_ended and not each.readers)
        oldest = next(complete, None)
        if oldest is not None:
            self.forget(oldest)
        return oldest is not None
