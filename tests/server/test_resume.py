"""A request with an Idempotency-Key is answered once, and can be had again by whoever asked for it."""

import asyncio
import random
import sys
import threading
from collections.abc import AsyncGenerator, Mapping
from itertools import count
from typing import Any

import httpx
import pytest
from tests.support.served import Api, Served, error_of

from quire_protocol import sse
from quire_server import resume
from quire_server.kept import AHEAD, KeptAnswers
from quire_server.ledger import HttpLedger
from quire_server.resume import Resume

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/inference/v1/generate"
LONG = {"prompt": "a b c", "max_tokens": 40, "temperature": 1, "ignore_eos": True}
STREAM = {**LONG, "stream": True, "stream_options": {"include_usage": True}}
FRESH = (f"key-{number}" for number in count())


@pytest.fixture
def key() -> str:
    return next(FRESH)


@pytest.fixture
def hasty(engine: Served) -> Api:
    """A server that waits for nobody for long."""
    return engine.api(stream_grace=0.05)


def post(api: Api, key: str, body: Mapping[str, Any], **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.request("POST", COMPLETIONS, json=body, headers={"Idempotency-Key": key, **names})


def cut(api: Api, body: Mapping[str, Any], headers: Mapping[str, str], *, after: int) -> bytes:
    """What a client has when its connection breaks after this many messages."""
    sent = httpx.Request("POST", "http://localhost", json=body).content  # the same bytes each time
    return api.served.run(_cut(api, sent, headers, after))


async def _cut(api: Api, body: bytes, headers: Mapping[str, str], after: int) -> bytes:
    left = asyncio.Event()
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    found: list[bytes] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body") and not left.is_set():
            found.append(message["body"])
        if len(found) >= after:
            left.set()
        await asyncio.sleep(0)

    sent = {"content-type": "application/json", **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    scope = {"type": "http", "method": "POST", "path": COMPLETIONS, "query_string": b"", "headers": raw}
    await api.app({**scope, "root_path": ""}, receive, send)
    return b"".join(found)


def events(raw: bytes) -> list[sse.Event]:
    return [*sse.decode(raw.splitlines(keepends=True))]


def text(found: list[sse.Event]) -> str:
    return "".join(choice["text"] for event in found for choice in event.json()["choices"])


def drawn(api: Api) -> int:
    return api.served.engine.stats.generation_tokens


@pytest.mark.parametrize("body", [LONG, STREAM], ids=["whole", "streamed"])
def test_the_same_request_under_the_same_key_is_answered_once(api: Api, key: str, body: dict[str, Any]) -> None:
    first = post(api, key, body)
    before = drawn(api)
    again = post(api, key, body)
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert drawn(api) == before
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]


def test_requests_that_come_at_once_share_one_answer(api: Api, key: str) -> None:
    before = drawn(api)

    async def both() -> list[httpx.Response]:
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Idempotency-Key": key}
            return await asyncio.gather(*(client.post(COMPLETIONS, json=STREAM, headers=headers) for _ in range(5)))

    answers = api.served.run(both())
    assert len({answer.content for answer in answers}) == 1
    assert drawn(api) == before + LONG["max_tokens"]


def test_every_event_has_an_id_of_its_own(api: Api, key: str) -> None:
    found = events(post(api, key, STREAM).content)
    ids = [event.id for event in found]
    assert None not in ids
    assert len({*ids}) == len(ids)


@pytest.mark.parametrize("body", [LONG, STREAM], ids=["whole", "streamed"])
def test_a_request_without_a_key_has_no_ids_and_is_not_kept(api: Api, body: dict[str, Any]) -> None:
    answers = [api.request("POST", COMPLETIONS, json=body) for _ in range(2)]
    assert b"\nid: " not in b"\n" + answers[0].content
    assert answers[0].content != answers[1].content


def test_who_comes_back_gets_the_rest(api: Api, key: str) -> None:
    begun = cut(api, STREAM, {"Idempotency-Key": key}, after=5)
    had = events(begun)
    rest = post(api, key, STREAM, last_event_id=str(had[-1].id))
    assert rest.content.endswith(b"data: [DONE]\n\n")
    assert begun + rest.content == post(api, key, STREAM).content


def test_the_id_of_an_event_is_enough_to_come_back(api: Api, key: str) -> None:
    begun = cut(api, STREAM, {"Idempotency-Key": key}, after=5)
    headers = {"Last-Event-ID": str(events(begun)[-1].id)}
    for method in ("GET", "POST"):
        rest = api.request(method, COMPLETIONS, headers=headers)
        assert begun + rest.content == post(api, key, STREAM).content


def test_however_often_a_stream_breaks_no_event_is_lost_or_told_twice(api: Api, key: str) -> None:
    rng = random.Random(6)
    headers = {"Idempotency-Key": key}
    found = b""
    while not found.endswith(b"data: [DONE]\n\n"):
        found += cut(api, STREAM, headers, after=rng.randint(1, 6))
        headers["Last-Event-ID"] = str(events(found)[-1].id)
    assert found == post(api, key, STREAM).content
    assert events(found)[-1].json()["usage"]["completion_tokens"] == LONG["max_tokens"]


def test_an_answer_that_nobody_comes_back_for_ends(hasty: Api, key: str) -> None:
    endless = {**STREAM, "max_tokens": 2000}
    with hasty.served.aborting(1):
        begun = cut(hasty, endless, {"Idempotency-Key": key}, after=3)
    refusal = post(hasty, key, endless, last_event_id=str(events(begun)[-1].id))
    assert refusal.status_code == 410
    assert "--stream-grace" in error_of(refusal)["message"]


def test_without_a_grace_a_key_changes_nothing(engine: Served, key: str) -> None:
    api = engine.api(stream_grace=0)
    with engine.aborting(1):
        assert b"id: " not in cut(api, {**STREAM, "max_tokens": 2000}, {"Idempotency-Key": key}, after=3)
    first, second = (post(api, key, LONG) for _ in range(2))
    assert first.content != second.content


def test_another_request_under_the_same_key_is_refused(api: Api, key: str) -> None:
    post(api, key, LONG)
    refusal = post(api, key, {**LONG, "prompt": "d"})
    assert refusal.status_code == 422
    assert "Idempotency-Key" in error_of(refusal)["message"]


@pytest.mark.parametrize("bad", ["", "k" * 256, "ключ"])
def test_a_key_that_is_none_is_refused(api: Api, bad: str) -> None:
    headers = {b"Idempotency-Key": bad.encode()}
    refusal = api.request("POST", COMPLETIONS, json=LONG, headers=headers)
    assert refusal.status_code == 400
    assert "Idempotency-Key" in error_of(refusal)["message"]


@pytest.mark.parametrize("last", ["0" * 32 + "-1", "f" * 32 + "-999999999"])
def test_an_event_of_no_stream_here_is_gone(api: Api, key: str, last: str) -> None:
    assert post(api, key, STREAM, last_event_id=last).status_code == 410
    assert api.request("GET", COMPLETIONS, headers={"Last-Event-ID": last}).status_code == 410


def test_an_event_that_was_never_sent_is_gone(api: Api, key: str) -> None:
    found = events(post(api, key, STREAM).content)
    name = str(found[0].id).partition("-")[0]
    assert post(api, key, STREAM, last_event_id=f"{name}-{len(found) + 9}").status_code == 410


def test_an_event_means_nothing_to_who_cannot_stream(api: Api) -> None:
    headers = {"Last-Event-ID": "0" * 32 + "-1"}
    assert api.request("DELETE", "/v1/requests/nobody", headers=headers).status_code == 404


def test_a_body_that_is_too_large_is_refused_with_an_event_too(engine: Served, key: str) -> None:
    api = engine.api(max_body_bytes=1024)
    begun = cut(api, {**STREAM, "max_tokens": 100}, {"Idempotency-Key": key}, after=2)
    headers = {"Last-Event-ID": str(events(begun)[-1].id)}

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(9):
            yield b" " * 900

    assert api.request("GET", COMPLETIONS, content=pieces(), headers=headers).status_code == 413


def test_an_id_that_is_not_ours_is_passed_over(api: Api, key: str) -> None:
    assert post(api, key, LONG, last_event_id="17").status_code == 200


def test_a_refusal_is_not_kept(api: Api, key: str) -> None:
    for _ in range(2):
        answer = post(api, key, {**LONG, "max_tokens": -1})
        assert answer.status_code == 400
        assert "idempotent-replayed" not in answer.headers
    assert post(api, key, LONG).status_code == 200


def test_a_key_belongs_to_whoever_brings_the_api_key(engine: Served, key: str) -> None:
    api = engine.api(api_key=("first", "second"))
    mine = post(api, key, STREAM, authorization="Bearer first")
    other = post(api, key, STREAM, authorization="Bearer second")
    assert mine.status_code == other.status_code == 200
    assert mine.content != other.content
    last = str(events(mine.content)[0].id)
    for headers in ({"authorization": "Bearer second"}, {"authorization": "Bearer second", "idempotency_key": key}):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        stolen = api.request("POST", COMPLETIONS, json=STREAM, headers={**named, "Last-Event-ID": last})
        assert stolen.status_code == 410


def test_a_body_that_is_too_large_is_refused_with_a_key_too(engine: Served, key: str) -> None:
    api = engine.api(max_body_bytes=1024)
    assert post(api, key, {**LONG, "prompt": "a" * 2000}).status_code == 413


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_every_route_that_streams_can_be_resumed(api: Api, key: str, path: str) -> None:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 8, "ignore_eos": True}
    ids: dict[str, Any] = {"token_ids": [1, 2], "sampling_params": {"max_tokens": 8, "ignore_eos": True}}
    body = {**(said if path == CHAT else ids), "stream": True}
    whole = api.request("POST", path, json=body, headers={"Idempotency-Key": key})
    second = str(events(whole.content)[1].id)
    rest = api.request("POST", path, headers={"Last-Event-ID": second})
    ended = whole.content.index(f"id: {second}\n".encode())
    assert rest.content == whole.content[whole.content.index(sse.END, ended) + 2 :]


def test_a_full_table_is_429(engine: Served, key: str) -> None:
    api = engine.api(max_kept_answers=1, stream_grace=0.2)
    with engine.aborting(1):
        cut(api, {**STREAM, "max_tokens": 2000}, {"Idempotency-Key": key}, after=1)
        refusal = post(api, f"{key}-2", LONG)
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "1")
        assert "--max-kept-answers" in error_of(refusal)["message"]
        assert error_of(refusal)["reason"] == "too_many_kept"


def test_answers_that_repeat_one_are_counted_to_its_route(engine: Served, key: str) -> None:
    api = engine.api()
    for _ in range(3):
        post(api, key, LONG)
    counted = next(reader for reader in api.app.state.readers if isinstance(reader, HttpLedger))
    assert counted.requests == {("POST", "2xx", COMPLETIONS): 3}


class Bodies:
    """An application that takes a request, looks at it, and answers with many bytes."""

    def __init__(self, pieces: int = 1, size: int = 1) -> None:
        self.pieces = pieces
        self.size = size
        self.sent = 0
        self.holders = 0
        """How many hold the request's body, beside the application."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).pop("body")
        self.holders = sys.getrefcount(body) - 2  # the variable, and the argument
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(1, self.pieces + 1):
            await send({"type": "http.response.body", "body": bytes(self.size), "more_body": number < self.pieces})
            self.sent = number


def asked(app: Resume, send: Any, size: int = 1000) -> Any:
    """A request under a key, of so many bytes."""
    messages: list[Any] = [{"type": "http.request", "body": bytes(size), "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    headers = [(b"idempotency-key", b"a")]
    return app({"type": "http", "method": "POST", "path": "/", "headers": headers, "state": {}}, receive, send)


def test_nobody_keeps_the_body_once_it_is_read(engine: Served) -> None:
    app = Bodies()

    async def send(message: Any) -> None:
        pass

    engine.run(asked(Resume(app, KeptAnswers(1.0, 4, 1024)), send))
    assert app.holders <= 0


def test_an_answer_too_large_to_be_kept_waits_for_its_reader(engine: Served) -> None:
    app, ahead = Bodies(pieces=40, size=AHEAD // 2), []
    read = 0

    async def send(message: Any) -> None:
        nonlocal read
        read += len(message.get("body", b""))
        for _ in range(100):
            await asyncio.sleep(0)
        ahead.append(app.sent - read // app.size)

    engine.run(asked(Resume(app, KeptAnswers(1.0, 4, 1024)), send))
    assert read == app.pieces * app.size
    assert max(ahead) <= 3


def test_a_large_body_is_digested_where_it_holds_up_nobody(engine: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, seen = resume._digest, set()

    def seen_digest(scope: Any, body: bytes) -> bytes:
        seen.add(threading.current_thread())
        return digest(scope, body)

    async def send(message: Any) -> None:
        pass

    monkeypatch.setattr(resume, "_digest", seen_digest)
    engine.run(asked(Resume(Bodies(), KeptAnswers(1.0, 4, 1024)), send, size=resume.LARGE))
    assert len(seen) == 1
    assert threading.current_thread() not in seen  # where the event loop runs
