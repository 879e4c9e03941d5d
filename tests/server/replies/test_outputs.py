"""Several requests' deliveries as one stream, which ends all of them however it ends."""

import asyncio
from contextlib import aclosing

import pytest
from tests.support.outputs import Given

from quire_engine.errors import EngineStopped
from quire_engine.text.output import Output
from quire_server.errors import AnswerFailed, DeadlineExceeded
from quire_server.replies.outputs import deliveries


def spoken(text: str, **fields: object) -> Output:
    return Output(0, text, (1,), **fields)


async def read(*requests: Given) -> list[tuple[int, str]]:
    return [(place, output.text) async for come in deliveries(requests) for place, output in come]


def test_each_delivery_has_the_place_of_its_request() -> None:
    requests = [Given([spoken("a"), spoken("b")]), Given([]), Given([spoken("c")])]
    found = asyncio.run(read(*requests))
    assert [text for place, text in found if place == 0] == ["a", "b"]
    assert [text for place, text in found if place == 2] == ["c"]
    assert all(request.is_closed for request in requests)


@pytest.mark.parametrize("requests", [1, 3])
def test_an_answer_that_the_engine_gave_up_ends_them_all(requests: int) -> None:
    broken = Given([spoken("a"), spoken("", finish_reason="error", error="The logits were not numbers.")])
    others = [Given([spoken("b")] * 5) for _ in range(requests - 1)]
    with pytest.raises(AnswerFailed, match="The logits were not numbers"):
        asyncio.run(read(broken, *others))
    assert all(request.is_closed for request in (broken, *others))


@pytest.mark.parametrize("requests", [1, 3])
def test_a_deadline_that_passed_before_anything_was_delivered_is_an_error(requests: int) -> None:
    given = [Given([Output(0, "", (), finish_reason="timeout")]) for _ in range(requests)]
    with pytest.raises(DeadlineExceeded, match="The deadline passed"):
        asyncio.run(read(*given))
    assert all(request.is_closed for request in given)


@pytest.mark.parametrize(
    "outputs",
    [
        [spoken("a"), Output(0, "", (), finish_reason="timeout")],
        [spoken("a", finish_reason="timeout")],
        [spoken("", finish_reason="timeout")],  # a token whose text is half a character
    ],
)
def test_a_deadline_that_passes_later_is_how_the_answer_ends(outputs: list[Output]) -> None:
    async def read_all() -> list[Output]:
        return [output async for come in deliveries([Given(outputs)]) for _, output in come]

    assert asyncio.run(read_all()) == outputs


@pytest.mark.parametrize("requests", [1, 3])
def test_an_error_passes_through_and_ends_them_all(requests: int) -> None:
    given = [Given([spoken("a"), EngineStopped("gone")]), *(Given([spoken("b")]) for _ in range(requests - 1))]
    with pytest.raises(EngineStopped):
        asyncio.run(read(*given))
    assert all(request.is_closed for request in given)


@pytest.mark.parametrize("requests", [1, 3])
def test_what_is_there_comes_together(requests: int) -> None:
    async def read_all() -> list[list[tuple[int, str]]]:
        given = [Given([spoken("a"), spoken("b"), spoken("c")], together=True) for _ in range(requests)]
        return [[(place, output.text) for place, output in come] async for come in deliveries(given)]

    assert asyncio.run(read_all()) == [[(place, text) for place in range(requests) for text in "abc"]]


def test_what_came_before_an_error_is_delivered_before_it_is_raised() -> None:
    broken = Given([spoken("a"), spoken("b"), spoken("", finish_reason="error", error="broken")], together=True)
    found: list[list[str]] = []

    async def read_all() -> None:
        async for come in deliveries([broken]):
            texts = [output.text for _, output in come]
            found.append(texts)

    with pytest.raises(AnswerFailed, match="broken"):
        asyncio.run(read_all())
    assert found == [["a", "b"]]


@pytest.mark.parametrize("requests", [1, 3])
def test_closing_early_ends_them_all(requests: int) -> None:
    given = [Given([spoken("a")] * 5) for _ in range(requests)]

    async def read_one() -> None:
        async with aclosing(deliveries(given)) as outputs:
            await anext(outputs)

    asyncio.run(read_one())
    assert all(request.is_closed for request in given)
