"""What a client hears of a full line and of a deadline that cannot be met: before anything is computed."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.stepped import Client, Stepped, stepped

COMPLETIONS = "/v1/completions"
LONG = {"prompt": "Go on.", "max_tokens": 400, "ignore_eos": True}
NARROW = {"max_num_seqs": 1, "max_num_queued_reqs": 1}
"""One runs, and one waits."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_full_line_is_429_and_says_when_to_come_back(stream: bool) -> None:
    async def scenario() -> None:
        async with stepped(NARROW) as server:
            running = server.post(COMPLETIONS, LONG)
            await server.until(lambda: server.link.is_told)
            await server.step()
            waiting = server.post(COMPLETIONS, LONG)
            await server.until(lambda: server.link.is_told)
            refused = server.post(COMPLETIONS, {**LONG, "stream": stream})
            status, answer = await refused.answer()
            assert (status, answer["error"]["reason"]) == (429, "queue_full")
            assert int(refused.header("retry-after") or 0) >= 1
            assert refused.header("x-should-retry") is None
            await leaves_nothing(server, running, waiting)

    asyncio.run(scenario())


def test_several_prompts_find_room_together_or_none_of_them_stays() -> None:
    async def scenario() -> None:
        async with stepped(NARROW) as server:
            status, answer = await server.ask("POST", COMPLETIONS, {**LONG, "prompt": ["a", "b", "c"]})
            assert (status, answer["error"]["reason"]) == (429, "queue_full")
            await leaves_nothing(server)
            assert server.link.engine.stats().generation_tokens == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_deadline_that_cannot_be_met_is_429_and_may_be_asked_for_when_the_line_is_shorter(stream: bool) -> None:
    async def scenario() -> None:
        async with stepped() as server:
            first = server.post(COMPLETIONS, {**LONG, "max_tokens": 20})
            await server.until(lambda: server.link.is_told)
            await server.step(24)  # from which it learns how fast it is
            await first.answer()
            generated = server.link.engine.stats().generation_tokens
            late = server.post(COMPLETIONS, {**LONG, "stream": stream}, x_request_timeout="0.000001")
            status, answer = await late.answer()
            assert (status, answer["error"]["reason"]) == (429, "deadline_unreachable")
            assert late.header("x-should-retry") is None
            assert int(late.header("retry-after") or 0) >= 1
            await leaves_nothing(server)
            assert server.link.engine.stats().generation_tokens == generated

    asyncio.run(scenario())


async def leaves_nothing(server: Stepped, *clients: Client) -> None:
    """These clients go away, and nothing stays behind."""
    for client in clients:
        client.leave()
        await client.task
    await server.step(2)
    assert server.serving.engine.num_requests == 0
