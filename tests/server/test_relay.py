"""A request that names itself is answered once by all workers together, and can be had again from any of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.served import MODEL, Api, Served, error_of

from quire_protocol import sse
from quire_server.app import attach, build_app
from quire_server.entrance import Entrance
from quire_server.relay import Relay
from quire_server.settings import ServerSettings

PLACES = 3
BODY = {"prompt": "a b c", "max_tokens": 12, "temperature": 1, "ignore_eos": True, "stream": True}
KEYS = (f"key-{number}" for number in count())


class Workers:
    """Several applications before one engine, each behind an entrance and a relay of its own."""

    def __init__(self, engine: Served, folder: Path, **settings: Any) -> None:
        asked = ServerSettings(**{"api_key": (), "served_model_name": (MODEL,), "api_server_count": PLACES} | settings)
        self.engine, self.settings = engine, asked
        self.entrances = [Entrance() for _ in range(PLACES)]
        self.relays = [Relay(entrance, folder, place, PLACES) for place, entrance in enumerate(self.entrances)]
        for entrance, relay in zip(self.entrances, self.relays, strict=True):
            app = build_app(asked, relay.new_name)
            attach(app, engine.engine, asked, MODEL)
            entrance.open(relay.in_front_of(app, app.state.keys))
        self.apis = [Api(engine, entrance, asked) for entrance in self.entrances]  # type: ignore[arg-type]
        self.stack = AsyncExitStack()

    def __enter__(self) -> Workers:
        self.engine.run(self._listen())
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.run(self.stack.aclose())

    async def _listen(self) -> None:
        for relay in self.relays:
            await self.stack.enter_async_context(relay.listening())

    def post(self, place: int, key: str, **headers: str) -> httpx.Response:
        return self.apis[place].request(
            "POST", "/v1/completions", json=BODY, headers={"Idempotency-Key": key, **headers}
        )


@pytest.fixture(scope="module")
def workers(engine: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(engine, tmp_path_factory.mktemp("workers")) as each:
        yield each


def ids(answer: httpx.Response) -> list[str]:
    return [event.id for event in sse.decode(answer.text.splitlines(keepends=True)) if event.id]


def test_one_key_is_one_answer_whichever_worker_is_asked(workers: Workers) -> None:
    for key in (next(KEYS) for _ in range(4)):  # of keys like these each worker has some
        first, *others = (workers.post(place, key) for place in range(PLACES))
        assert (first.status_code, "idempotent-replayed" in first.headers) == (200, False)
        for again in others:
            assert again.text == first.text
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["x-request-id"]


def test_a_stream_goes_on_behind_its_last_event_whichever_worker_is_asked(workers: Workers) -> None:
    key = next(KEYS)
    whole = workers.post(0, key)
    last = ids(whole)[4]
    for place in range(PLACES):
        for headers in ({"Idempotency-Key": key}, {}):
            rest = workers.apis[place].request(
                "POST", "/v1/completions", json=BODY, headers={"Last-Event-ID": last, **headers}
            )
            assert rest.status_code == 200
            assert ids(rest) == ids(whole)[5:]


def test_a_name_says_where_its_answer_is_and_is_another_one_each_time(workers: Workers) -> None:
    names = {(relay.new_name(), place) for place, relay in enumerate(workers.relays) for _ in range(5)}
    assert len(names) == 5 * PLACES
    for name, place in names:
        assert {relay._place_of(name) for relay in workers.relays} == {place}


def test_refusals_come_back_as_they_are(workers: Workers) -> None:
    key = next(KEYS)
    workers.post(0, key)
    for place in range(PLACES):
        other = workers.apis[place].request(
            "POST", "/v1/completions", json={**BODY, "seed": 1}, headers={"Idempotency-Key": key}
        )
        assert other.status_code == 422
        assert "another request" in error_of(other)["message"]
        wrong = workers.apis[place].request("POST", "/v1/completions", content=b"{", headers={"Idempotency-Key": "x"})
        assert wrong.status_code == 400


def test_a_body_that_is_too_large_is_refused_wherever_it_comes_to(engine: Served, tmp_path: Path) -> None:
    with Workers(engine, tmp_path, max_body_bytes=2048) as workers:
        for api in workers.apis:
            answer = api.request("POST", "/v1/completions", content=b" " * 2**22, headers={"Idempotency-Key": "large"})
            assert answer.status_code == 413


def test_keys_of_different_callers_are_different_and_nobody_comes_in_through_another_worker(
    engine: Served, tmp_path: Path
) -> None:
    with Workers(engine, tmp_path, api_key=("one", "two")) as workers:
        key = next(KEYS)
        hers, his = (workers.post(0, key, Authorization=f"Bearer {secret}") for secret in ("one", "two"))
        assert (hers.status_code, his.status_code) == (200, 200)
        assert hers.text != his.text
        for place in range(PLACES):
            assert workers.post(place, key).status_code == 401
            assert workers.post(place, key, Authorization="Bearer two").text == his.text


def test_a_worker_that_is_away_is_told_and_the_others_answer(engine: Served, tmp_path: Path) -> None:
    workers = Workers(engine, tmp_path)
    told = {}
    for key in (next(KEYS) for _ in range(12)):
        answer = workers.post(0, key)
        told[answer.status_code] = answer
    assert {*told} == {200, 503}  # those that it keeps itself, and those of others
    assert "started again" in error_of(told[503])["message"]
    assert told[503].headers["retry-after"] == "1"


def test_a_client_that_leaves_ends_its_answer_where_that_is_made(engine: Served, tmp_path: Path) -> None:
    with Workers(engine, tmp_path, stream_grace=0.05) as workers, engine.aborting(4):
        for key in (next(KEYS) for _ in range(4)):
            engine.run(begin_and_leave(workers.entrances[0], key))


async def begin_and_leave(app: Entrance, key: str) -> None:
    left = asyncio.Event()
    messages = [{"type": "http.request", "body": json.dumps({**BODY, "max_tokens": 1900}).encode()}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            left.set()

    headers = [(b"content-type", b"application/json"), (b"idempotency-key", key.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": headers}
    await app({**scope, "root_path": "", "raw_path": b"/v1/completions"}, receive, send)


def test_an_answer_whose_worker_goes_breaks_off(engine: Served, tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        head = json.dumps({"status": 200, "headers": []}).encode()
        writer.write(len(head).to_bytes(4, "little") + head + b"\x03\x00\x00\x00abc\x03\x00")
        writer.close()

    @asynccontextmanager
    async def mortal(path: Path) -> Any:
        async with await asyncio.start_unix_server(cut, path):
            yield

    async def scenario() -> list[str]:
        workers, sent = Workers(engine, tmp_path), []
        key = next(key for key in KEYS if workers.relays[0]._place_of(f"\n{key}") == 1)

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message["type"] + str(message.get("more_body", "")))

        headers = [(b"idempotency-key", key.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        async with mortal(tmp_path / "worker-1"):
            await workers.entrances[0](scope, receive, send)
        return sent

    assert engine.run(scenario()) == ["http.response.start", "http.response.bodyTrue"]
