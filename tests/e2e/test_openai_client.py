"""The official openai client against a real `quire serve` process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import openai
import pytest
from tests.support.processes import Server, quire_serve

T = TypeVar("T")

HELLO: list[Any] = [{"role": "user", "content": "Tell me a story."}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}
PATIENCE = 60.0


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", timeout=PATIENCE, max_retries=0) as each:
        yield each


def together(server: Server, work: Any) -> Any:
    """Run `work` with an asynchronous client."""

    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=server.api, api_key="none", timeout=PATIENCE, max_retries=0) as client:
            return await asyncio.wait_for(work(client), 2 * PATIENCE)

    return asyncio.run(run())


async def told(stream: Coroutine[Any, Any, Any]) -> str:
    """The text of a streamed chat."""
    return "".join([choice.delta.content or "" async for chunk in await stream for choice in chunk.choices])


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    (card,) = client.models.list().data
    assert client.models.retrieve(card.id) == card
    assert card.id == "tiny"


def test_a_chat_streams_what_it_says_at_once(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, **GREEDY)
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="tiny", messages=HELLO, stream=True, stream_options=options, **GREEDY)
    )
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12


def test_a_completion_streams_what_it_says_at_once(client: openai.OpenAI) -> None:
    prompts = ["Once upon a time", "def main():"]
    whole = client.completions.create(model="tiny", prompt=prompts, n=2, **GREEDY)
    texts = dict.fromkeys(range(4), "")
    for chunk in client.completions.create(model="tiny", prompt=prompts, n=2, stream=True, **GREEDY):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert texts[0] == texts[1] != texts[2] == texts[3]


def test_a_refusal_is_the_clients_own_exception(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=9, stream=True)
    assert (refused.value.param, refused.value.status_code) == ("temperature", 400)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=HELLO)


def test_concurrent_streams_say_what_each_says_alone(server: Server, client: openai.OpenAI) -> None:
    questions: list[list[Any]] = [
        [{"role": "user", "content": f"Tell me {count} stories. " * count}] for count in range(1, 9)
    ]
    alone = [client.chat.completions.create(model="tiny", messages=each, **GREEDY) for each in questions]
    expected = [each.choices[0].message.content or "" for each in alone]  # None where all was a thought

    async def ask_all(crowd: openai.AsyncOpenAI) -> list[str]:
        streams = [
            told(crowd.chat.completions.create(model="tiny", messages=questions[place % 8], stream=True, **GREEDY))
            for place in range(64)
        ]
        return await asyncio.gather(*streams)

    assert together(server, ask_all) == expected * 8


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_given_up_half_way_makes_room_at_once(stream: bool) -> None:
    endless: dict[str, Any] = {"max_tokens": 1900, "extra_body": {"ignore_eos": True}}

    async def give_up_eight_then_ask(client: openai.AsyncOpenAI) -> str:
        for _ in range(8):
            if stream:
                chunks = await client.chat.completions.create(
                    model="quire-demo", messages=HELLO, stream=True, **endless
                )
                await anext(aiter(chunks))
                await chunks.close()
            else:
                with pytest.raises(openai.APITimeoutError):
                    await client.with_options(timeout=0.2).chat.completions.create(
                        model="quire-demo", messages=HELLO, **endless
                    )
        # One at a time: had they not been aborted, this would wait for 15,000 tokens.
        answer = await client.with_options(timeout=20).completions.create(model="quire-demo", prompt="x", max_tokens=2)
        return answer.choices[0].finish_reason

    with quire_serve("--max-num-seqs", "1") as server:
        assert together(server, give_up_eight_then_ask) == "length"
