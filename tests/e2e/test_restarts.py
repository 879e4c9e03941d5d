"""A real server whose engine is killed: its clients see a pause, until it happens too often."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import httpx
import openai
from tests.support.processes import END, Server, engine_of, quire_serve

PATIENCE = 120.0
"""Seconds for all streams, restarts included."""
STREAMS = 32
FLAGS = ("--dtype", "float32", "--served-model-name", "tiny", "--max-num-seqs", "32")

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"presence_penalty": 0.7, "frequency_penalty": 0.3},
    {"n": 2, "temperature": 0.9, "seed": 11},
    {"logprobs": True, "top_logprobs": 2},
    {"stop": ["the", "zz"], "extra_body": {"min_tokens": 25}},
    {"extra_body": {"structured_outputs": {"regex": "([a-z]{3,9} ){8}"}}},
)


async def seen(client: openai.AsyncOpenAI, place: int, begun: asyncio.Event) -> Any:
    """All that the client of one stream sees: the choices' texts, tokens and ends, and the usage."""
    fields: dict[str, Any] = {"temperature": 0, "max_tokens": 90, "n": 1, **KINDS[place % len(KINDS)]}
    stream = await client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": f"Tell me of the number {place}."}],
        stream=True,
        stream_options={"include_usage": True},
        **fields,
    )
    choices: list[dict[str, Any]] = [{"text": "", "tokens": [], "end": None} for _ in range(fields["n"])]
    usage = None
    async for chunk in stream:
        begun.set()
        usage = chunk.usage or usage
        for choice in chunk.choices:
            own = choices[choice.index]
            own["text"] += choice.delta.content or ""
            own["tokens"] += [each.token for each in (choice.logprobs.content or ())] if choice.logprobs else []
            own["end"] = choice.finish_reason or own["end"]
    assert usage is not None
    return choices, usage.prompt_tokens, usage.completion_tokens


async def crowd(server: Server, deaths: int = 0) -> list[Any]:
    """What the clients see whose streams run at the same time, while the engine is killed so often."""
    async with (
        openai.AsyncOpenAI(base_url=server.api, api_key="none", max_retries=0) as client,
        asyncio.timeout(PATIENCE),
    ):
        begun = [asyncio.Event() for _ in range(STREAMS)]
        streams = [asyncio.create_task(seen(client, place, begun[place])) for place in range(STREAMS)]
        for death in range(deaths):
            await begun[(5 + 7 * death) % STREAMS].wait()
            os.kill(engine_of(server), signal.SIGKILL)
            await ready(server)
        return await asyncio.gather(*streams)


async def ready(server: Server) -> None:
    """Wait until the server says that its engine is away, and then until it is there again."""
    async with httpx.AsyncClient(base_url=server.address) as client:
        for wanted in (503, 200):
            while (await client.get("/readyz")).status_code != wanted:
                await asyncio.sleep(0.01)


def test_streams_go_on_when_the_engine_is_killed() -> None:
    with quire_serve(*FLAGS) as server:
        wanted = asyncio.run(crowd(server))
        assert asyncio.run(crowd(server, deaths=1)) == wanted
        assert httpx.get(f"{server.address}/health").status_code == 200
        assert server.stop() == 0


def test_an_engine_that_is_killed_too_often_ends_the_server_with_an_error() -> None:
    with quire_serve(*FLAGS, "--max-engine-deaths", "1") as server:
        body = {"model": "tiny", "prompt": "Once", "max_tokens": 1000, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{server.api}/completions", json=body, timeout=PATIENCE) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            os.kill(engine_of(server), signal.SIGKILL)
            rest = [line for line in lines if line]
        assert first.startswith("data: ")
        assert '"error"' in rest[-2]
        assert rest[-1] == "data: [DONE]"
        assert server.process.wait(END) == 1
