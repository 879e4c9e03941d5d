"""Answers that are kept: written once, read from any place, within bounds of number, size and time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from quire_server.kept import AHEAD, PIECE, KeptAnswer, KeptAnswers, NoPlace, Owned

PATIENCE = 30.0
KIB = 1024


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


def table(grace: float = PATIENCE, most: int = 4, most_bytes: int = 8 * KIB) -> KeptAnswers:
    return KeptAnswers(grace, most, most_bytes)


def begun(kept: KeptAnswers, key: str, owner: str = "somebody") -> KeptAnswer:
    return kept.begin(Owned(owner, key), b"digest")


async def all_of(kept: KeptAnswers, answer: KeptAnswer, place: int = 0) -> bytes:
    found = b""
    with kept.reading(answer, place) as reader:
        while pieces := await answer.read(reader):
            found += pieces
    return found


def test_every_reader_has_all_from_its_own_place() -> None:
    async def check() -> None:
        kept = table()
        answer = begun(kept, "a")
        kept.write(answer, [b"1", b"2"])
        readers = [asyncio.create_task(all_of(kept, answer, place)) for place in (0, 1, 2)]
        await asyncio.sleep(0)
        kept.write(answer, [b"3"])
        kept.write(answer, [b"4"])
        answer.end()
        assert await asyncio.gather(*readers, all_of(kept, answer)) == [b"1234", b"234", b"34", b"1234"]

    run(check())


def test_an_answer_is_found_by_its_owner_alone() -> None:
    async def check() -> None:
        kept = table()
        answer = begun(kept, "a", "one")
        assert kept.find(Owned("one", "a")) is answer is kept.named("one", answer.name)
        assert kept.find(Owned("two", "a")) is None
        assert kept.named("two", answer.name) is None

    run(check())


def test_an_answer_ends_once_its_last_reader_is_gone_for_longer_than_the_grace() -> None:
    async def check() -> None:
        kept = table(grace=0.01)
        answer = begun(kept, "a")
        with kept.reading(answer, 0):
            with kept.reading(answer, 0):
                pass
            assert not answer.unread.is_set()
        assert kept.find(answer.owned) is answer  # the grace has only begun
        await answer.unread.wait()
        assert kept.find(answer.owned) is None
        assert len(kept) == kept.size == 0

    run(check())


def test_who_comes_back_within_the_grace_stops_the_clock() -> None:
    async def check() -> None:
        kept = table(grace=0.05)
        answer = begun(kept, "a")
        with kept.reading(answer, 0):
            pass
        with kept.reading(answer, 0), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await answer.unread.wait()
        await answer.unread.wait()

    run(check())


def test_a_new_answer_takes_the_place_of_the_oldest_complete_one() -> None:
    async def check() -> None:
        kept = table(most=2)
        first, second = begun(kept, "a"), begun(kept, "b")
        first.end()
        second.end()
        begun(kept, "c")
        assert kept.find(first.owned) is None
        assert kept.find(second.owned) is second

    run(check())


def test_where_all_are_being_made_a_new_one_is_refused() -> None:
    async def check() -> None:
        kept = table(most=1)
        begun(kept, "a")
        with pytest.raises(NoPlace, match="--max-kept-answers"):
            begun(kept, "b")

    run(check())


def test_who_holds_most_places_gives_one_up_for_who_holds_fewer() -> None:
    async def check() -> None:
        kept = table(most=4)
        many = [begun(kept, str(number), "many") for number in range(4)]
        few = [begun(kept, str(number), "few") for number in range(2)]
        assert [each.is_kept for each in (*many, *few)] == [True, True, False, False, True, True]
        assert many[2].unread.is_set()  # nobody read it, so it ends
        for owner in ("many", "few"):
            with pytest.raises(NoPlace):  # both hold half
                begun(kept, "more", owner)

    run(check())


def test_of_places_too_an_answer_that_is_complete_is_given_up_first() -> None:
    async def check() -> None:
        kept = table(most=4)
        one = begun(kept, "a", "one")
        many = [begun(kept, str(number), "many") for number in range(3)]
        for each in (one, many[1]):
            each.end()
        begun(kept, "a", "new")
        assert [each.is_kept for each in (one, *many)] == [True, True, False, True]

    run(check())


def test_who_has_most_bytes_makes_room_for_them() -> None:
    async def check() -> None:
        kept = table(most_bytes=8 * KIB)
        small, large = begun(kept, "a", "one"), begun(kept, "a", "many")
        kept.write(small, [bytes(2 * KIB)])
        small.end()
        kept.write(large, [bytes(4 * KIB)])
        kept.write(large, [bytes(3 * KIB)])
        assert (small.is_kept, large.is_kept) == (True, False)
        assert kept.size == 2 * KIB + PIECE

    run(check())


def test_a_writer_waits_for_readers_only_where_nobody_can_come_back() -> None:
    async def check() -> None:
        kept = table(most_bytes=4 * AHEAD)
        answer = begun(kept, "a")
        with kept.reading(answer, 0) as reader, kept.reading(answer, 0) as slow:
            kept.write(answer, [bytes(AHEAD)] * 2)
            assert answer.has_room.is_set()
            kept.forget(answer)
            assert not answer.has_room.is_set()
            await answer.read(reader)
            assert not answer.has_room.is_set()
            await answer.read(slow)
            assert answer.has_room.is_set()
            kept.write(answer, [bytes(AHEAD)])
            assert not answer.has_room.is_set()
        assert answer.has_room.is_set()  # those who left are not waited for

    run(check())


def test_complete_answers_make_room_for_new_pieces() -> None:
    async def check() -> None:
        kept = table(most_bytes=8 * KIB)
        old, new = begun(kept, "a"), begun(kept, "b")
        kept.write(old, [bytes(6 * KIB)])
        old.end()
        kept.write(new, [bytes(4 * KIB)])
        assert kept.find(old.owned) is None
        assert kept.find(new.owned) is new
        assert kept.size == 4 * KIB + PIECE

    run(check())


def test_an_answer_that_grew_too_large_is_read_on_without_being_kept() -> None:
    async def check() -> None:
        kept = table(most_bytes=8 * KIB)
        answer = begun(kept, "a")
        with kept.reading(answer, 0) as reader:
            for _ in range(20):
                kept.write(answer, [bytes(KIB)])
                assert len(await answer.read(reader)) == KIB
            assert kept.find(answer.owned) is None
            assert kept.size == 0
            assert answer.length == 20
            assert not answer._pieces  # what was read is of no use to anybody
            assert not answer.unread.is_set()
        assert answer.unread.is_set()

    run(check())


def test_an_answer_without_readers_that_must_go_ends() -> None:
    async def check() -> None:
        kept = table(most_bytes=1 * KIB)
        answer = begun(kept, "a")
        with kept.reading(answer, 0):
            pass
        kept.write(answer, [bytes(2 * KIB)])
        assert answer.unread.is_set()

    run(check())


def test_what_its_writer_met_is_raised_behind_the_last_piece() -> None:
    async def check() -> None:
        kept = table()
        answer = begun(kept, "a")
        kept.write(answer, [b"1"])
        answer.end(ValueError("broken"))
        answer.end()
        with kept.reading(answer, 0) as reader:
            assert await answer.read(reader) == b"1"
            with pytest.raises(ValueError, match="broken"):
                await answer.read(reader)

    run(check())
