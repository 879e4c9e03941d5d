"""Events that take the shortcut into the connection are those that go the long way, whatever a client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support.listening import listening, request
from tests.support.served import Api

from quire_protocol import sse
from quire_server.accounts import Account
from quire_server.shortcut import shortcut_of

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/inference/v1/generate"
MESSAGES = [{"role": "user", "content": "Tell me of the sea."}]
USAGE = {"include_usage": True}

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "a completion": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 40}),
    "choices": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 20, "n": 3, "seed": 1}),
    "an echo": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 20, "echo": True}),
    "log-probabilities": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 20, "logprobs": 2}),
    "ids": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 20, "return_token_ids": True}),
    "a stop string": (COMPLETIONS, {"prompt": "The sea", "max_tokens": 40, "stop": ["e"], "min_tokens": 12}),
    "a conversation": (CHAT, {"messages": MESSAGES, "max_tokens": 40}),
    "a conversation's log-probabilities": (CHAT, {"messages": MESSAGES, "max_tokens": 20, "logprobs": True}),
    "ids in, ids out": (GENERATE, {"token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 20, "temperature": 0}}),
}


class Watching:
    """The application, and how many bytes took the shortcut through it."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.app = app
        self.short = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        shortcut = shortcut_of(scope)
        await self.app(scope, receive, send)
        self.short += 0 if shortcut is None else shortcut.written


@asynccontextmanager
async def asking(api: Api) -> AsyncIterator[tuple[httpx.AsyncClient, Watching]]:
    """A client of the application behind a server's own connections."""
    watching = Watching(api.app)
    async with (
        listening(watching) as server,
        httpx.AsyncClient(base_url="http://{}:{}".format(*server.address)) as client,
    ):
        yield client, watching


def told(text: str) -> tuple[dict[int, dict[str, Any]], Any]:
    """What the events of a stream come to, choice by choice, and its usage: two tokens may leave as one event."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    assert text.endswith("data: [DONE]\n\n")
    for event in sse.decode(text.splitlines(keepends=True)):
        said = event.json()
        usage = said.get("usage") or usage
        for choice in said["choices"]:
            add(choices.setdefault(choice["index"], {}), choice)
    return choices, usage


def add(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    for name, value in piece.items():
        match value:
            case dict():
                add(whole.setdefault(name, {}), value)
            case list():
                whole.setdefault(name, []).extend(value)
            case str() if name in ("text", "content"):
                whole[name] = whole.get(name, "") + value
            case _ if value is not None:
                whole[name] = value


@pytest.mark.parametrize(("path", "asked"), ASKED.values(), ids=ASKED)
def test_what_takes_the_shortcut_is_what_goes_the_long_way(api: Api, path: str, asked: dict[str, Any]) -> None:
    body = {"temperature": 0, **asked, "stream": True, "stream_options": USAGE}
    if path == GENERATE:
        del body["temperature"]
    first, long = (api.request("POST", path, json=body).text for _ in range(2))
    assert told(first)[0] == told(long)[0]  # the second finds its prompt in the cache, as the short one does

    async def ask() -> tuple[str, int]:
        async with asking(api) as (client, watching):
            answer = await client.post(path, json=body)
        return answer.text, watching.short

    short, written = api.served.run(ask())
    assert told(short) == told(long)
    assert 0 < written < len(short)


def test_bytes_that_take_the_shortcut_are_counted(api: Api) -> None:
    accounts: list[Account] = []

    async def ask() -> str:
        async with asking(api) as (client, _):
            return (await client.post(CHAT, json={"messages": MESSAGES, "max_tokens": 20, "stream": True})).text

    api.app.state.readers.append(accounts.append)
    try:
        text = api.served.run(ask())
    finally:
        api.app.state.readers.remove(accounts.append)
    assert [account.sent for account in accounts] == [len(text.encode())]


def test_answers_on_one_connection_are_told_apart(api: Api) -> None:
    async def ask() -> list[tuple[str, str]]:
        async with asking(api) as (client, _):
            body = {"messages": MESSAGES, "max_tokens": 20, "temperature": 0}
            at_once = [await client.post(CHAT, json=body) for _ in range(2)]
            streamed = [await client.post(CHAT, json={**body, "stream": True}) for _ in range(2)]
        whole = [answer.json()["choices"][0]["message"]["content"] for answer in at_once]
        return list(zip(whole, [told(answer.text)[0][0]["delta"]["content"] for answer in streamed], strict=True))

    assert all(whole == streamed for whole, streamed in api.served.run(ask()))


def test_the_last_event_tells_how_long_it_took_where_that_was_asked_for(api: Api) -> None:
    async def ask() -> str:
        async with asking(api) as (client, _):
            body = {"messages": MESSAGES, "max_tokens": 5, "stream": True}
            return (await client.post(CHAT, json=body, headers={"Prefer": "metrics"})).text

    *_, last = sse.decode(api.served.run(ask()).splitlines(keepends=True))
    assert last.json()["metrics"]["time_to_first_token_ms"] > 0


def test_an_answer_that_is_kept_has_an_id_on_every_event(api: Api) -> None:
    async def ask() -> tuple[str, int]:
        async with asking(api) as (client, watching):
            body = {"messages": MESSAGES, "max_tokens": 20, "stream": True}
            return (await client.post(CHAT, json=body, headers={"Idempotency-Key": "sea"})).text, watching.short

    text, written = api.served.run(ask())
    assert written == 0
    assert text.count("id: ") == text.count("data: ")
    assert len(told(text)[0]) == 1


def test_a_client_that_reads_slowly_gets_all_of_it(api: Api) -> None:
    body = {"prompt": "The sea", "max_tokens": 300, "ignore_eos": True, "temperature": 0, "logprobs": 20}
    fields = b"Content-Type: application/json", b"Connection: close"

    async def ask() -> tuple[str, bool]:
        async with (
            listening(api.app, send_buffer=4096) as server,
            server.client(receive_buffer=4096) as client,
        ):
            client.send(request(COMPLETIONS, json.dumps({**body, "stream": True}).encode(), *fields))
            await server.until(lambda connection: connection.flow.write_paused)
            while api.served.engine.num_requests:  # all of it is there, and most of it unread
                await asyncio.sleep(0)
            head, _, rest = (await client.rest()).partition(b"\r\n\r\n")
        return unchunked(rest), b"chunked" in head

    text, is_chunked = api.served.run(ask())
    assert is_chunked
    choices, _ = told(text)
    assert choices[0]["text"] == api.post(COMPLETIONS, **body)["choices"][0]["text"]
    assert len(choices[0]["logprobs"]["tokens"]) == 300


def unchunked(body: bytes) -> str:
    """A body without what stands around its chunks."""
    found = b""
    while body:
        length, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(length, 16)], rest[int(length, 16) + 2 :]
    return found.decode()
