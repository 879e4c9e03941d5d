"""What is written in one turn of the event loop leaves together, in its order."""

import asyncio
from collections.abc import Callable

from quire_server.gathered import MOST, Gathered


class Wire(asyncio.Transport):
    """A transport that keeps each piece as it was written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.has_ended = self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.pieces.append(bytes(data))

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0


def written(*turns: Callable[[Gathered], None]) -> Wire:
    """What comes of these, one in a turn of the event loop."""
    wire = Wire()

    async def write() -> None:
        gathered = Gathered(wire, asyncio.get_running_loop())
        for turn in turns:
            turn(gathered)
            await asyncio.sleep(0)

    asyncio.run(write())
    return wire


def two(gathered: Gathered) -> None:
    gathered.write(b"head")
    gathered.write(bytearray(b"body"))


def test_what_is_written_in_one_turn_leaves_together() -> None:
    assert written(two, two).pieces == [b"headbody", b"headbody"]


def two_and(then: Callable[[Gathered], None]) -> Callable[[Gathered], None]:
    """The same, and in the same turn this."""

    def write(gathered: Gathered) -> None:
        two(gathered)
        then(gathered)

    return write


def test_what_is_written_now_stands_behind_what_was_written_before() -> None:
    assert written(two_and(lambda gathered: gathered.write_now(b"!"))).pieces == [b"headbody", b"!"]


def test_the_end_comes_behind_what_was_written() -> None:
    ended, closed = written(two_and(Gathered.write_eof)), written(two_and(Gathered.close))
    assert (ended.pieces, ended.has_ended) == ([b"headbody"], True)
    assert (closed.pieces, closed.is_closed) == ([b"headbody"], True)


def test_nothing_is_written_to_a_connection_that_has_gone() -> None:
    assert written(two_and(Gathered.abort)).pieces == []


def test_what_waits_is_counted_and_bounded() -> None:
    sizes: list[int] = []

    def much(gathered: Gathered) -> None:
        for size in (10, MOST):
            gathered.write(b"x" * size)
            sizes.append(gathered.get_write_buffer_size())

    assert [len(piece) for piece in written(much).pieces] == [MOST + 10]
    assert sizes == [10, 0]
