"""A client that goes away ends its request before the next step, wherever its answer is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.stepped import stepped

PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Go on."}]},
    "/v1/completions": {"prompt": "Go on."},
    "/inference/v1/generate": {"token_ids": [5, 6, 7]},
}
LONG = {"max_tokens": 400, "ignore_eos": True}


def body_of(path: str, stream: bool) -> dict[str, Any]:
    if "token_ids" in PATHS[path]:
        return {**PATHS[path], "sampling_params": LONG, "stream": stream}
    return {**PATHS[path], **LONG, "stream": stream}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("path", PATHS)
def test_no_token_is_generated_for_a_client_that_has_gone(path: str, steps: int, stream: bool) -> None:
    async def scenario() -> None:
        async with stepped() as server:
            client = server.post(path, body_of(path, stream))
            await server.until(lambda: server.link.is_told)
            await server.step(steps)
            generated = server.link.engine.stats().generation_tokens
            assert (generated > 0) == (steps > 0)
            client.leave()
            if steps:  # else the abort stands behind the request, which was not heard yet
                await server.until(lambda: server.link.is_told)
            await client.task
            await server.step(2)
            stats = server.link.engine.stats()
            assert stats.generation_tokens == generated
            assert stats.finished == {"abort": 1}
            assert stats.kv_usage == 0

    asyncio.run(scenario())


def test_the_others_go_on() -> None:
    async def scenario() -> None:
        async with stepped() as server:
            body = {**body_of("/v1/completions", stream=True), "max_tokens": 12, "temperature": 0}
            alone = server.post("/v1/completions", body)
            await server.until(lambda: server.link.is_told)
            await server.step(16)
            (_, expected) = await alone.answer()
            clients = []
            for _ in range(3):
                clients.append(server.post("/v1/completions", body))
                await server.until(lambda: server.link.is_told)
                await server.step()
            clients[1].leave()
            await server.until(lambda: server.link.is_told)
            await server.step(16)
            for each in (clients[0], clients[2]):
                _, events = await each.answer()
                assert texts(events) == texts(expected)

    asyncio.run(scenario())


def texts(events: list[Any]) -> list[tuple[str, str | None]]:
    whole = "".join(event["choices"][0]["text"] for event in events)
    return [(whole, events[-1]["choices"][0]["finish_reason"])]
