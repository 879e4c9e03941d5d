"""What no client library would send, on a real socket: no way of writing a path goes around the key, and no bytes at
all end in more than a refusal."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.listening import Client, Listening, listening, request
from tests.support.served import Served

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
KEY = b"Authorization: Bearer first"

PIECES = (
    *("/", "//", "/.", "/..", "/../", ".", ";", "?", "#", "\\", "@", ":", "*", "%", "&", "=", "+", "~", " ", "\t", "é"),
    *("%2f", "%2F", "%2e", "%5c", "%3f", "%23", "%00", "%0a", "%25", "%252f", "%c0%af", "%ff", "%u002f", "%ZZ"),
    *("health", "/health", "/HEALTH", "/livez", "/readyz", "/ping", "/metrics", "/docs", "/openapi.json", "/version"),
    *(
        "v1",
        "/v1",
        "/models",
        "/v1/models",
        "/v1/chat/completions",
        "/tokenize",
        "/llm",
        "/llm/health",
        "/llm/v1/models",
    ),
    *("http://", "https://", "http://x/health", "//x/health", "x:80", "localhost", "[::1]", "["),
)
FIELDS = (
    *(
        "Host: x",
        "Host: /health",
        "Host: x/health?",
        "Host: [",
        "Host: x:health",
        "Host: [::1]:99999",
        "Host: é",
        "Host:",
    ),
    *("X-Original-URL: /health", "X-Rewrite-URL: /health", "X-Forwarded-Prefix: /health", "X-Forwarded-Host: ["),
    *("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: ]", "Forwarded: for=127.0.0.1", "X-HTTP-Method-Override: GET"),
    *("Authorization: Bearer", "Authorization: Bearer first2", "Authorization: Basic Zmlyc3Q6", "Cookie: key=first"),
    *("Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c", "Sec-WebSocket-Key: x", "Origin: null", "Expect: x"),
)
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "PATCH", "QUERY")

BODY = b'{"prompt": "x", "max_tokens": 1, "stream": true}'
WHOLE = b"\r\n".join(
    (
        b"POST /v1/completions HTTP/1.1",
        b"Host: x",
        KEY,
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(BODY),
        b"",
        BODY,
    )
)
CHUNKED = WHOLE[: -len(BODY)].replace(b"Content-Length: 48", b"Transfer-Encoding: chunked")
CHUNKED += b"10\r\n" + BODY[:16] + b"\r\n20;x=y\r\n" + BODY[16:] + b"\r\n0\r\nTrailer: z\r\n\r\n"

SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
AMBIGUOUS = {
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" + SMUGGLED,
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks within another coding": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a length below nothing": b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length with a sign": b"Content-Length: +4\r\n\r\nabcd" + SMUGGLED,
    "a length in words": b"Content-Length: four\r\n\r\nabcd" + SMUGGLED,
    "a length beyond all": b"Content-Length: 99999999999999999999\r\n\r\n",
    "a chunk below nothing": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
    "a chunk beyond all": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a space before the colon": b"Content-Length : 4\r\n\r\nabcd" + SMUGGLED,
    "a folded field": b"X: a\r\n b\r\nContent-Length: 4\r\n\r\nabcd",
    "a bare line feed": b"X: a\nContent-Length: 4\r\n\r\nabcd",
    "a zero byte in a field": b"X: a\x00b\r\n\r\n",
    "a zero byte in a name": b"X\x00: a\r\n\r\n",
}

IMPATIENT = {"timeout_header": 0.3, "timeout_body": 0.3, "timeout_keep_alive": 1}


@contextmanager
def in_front_of(engine: Served, **fields: object) -> Iterator[Listening]:
    """The application on a socket, on the engine's loop, which turns whenever the engine is told to run something.

    Nothing that it is asked may be told as an error in the log.
    """
    errors = Errors()
    logging.getLogger().addHandler(errors)
    own = {name: value for name, value in fields.items() if name != "send_buffer"}
    manager = listening(engine.api(**own).app, **fields)
    server = engine.run(manager.__aenter__())
    try:
        yield server
    finally:
        engine.run(manager.__aexit__(None, None, None))
        logging.getLogger().removeHandler(errors)
    assert not errors.told


class Errors(logging.Handler):
    """Keeps what is logged as an error, wherever it comes from."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


@pytest.fixture(scope="module")
def closed(engine: Served) -> Iterator[Listening]:
    with in_front_of(engine, api_key=("first",), **IMPATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def published(engine: Served) -> Iterator[Listening]:
    with in_front_of(engine, api_key=("first",), root_path="/llm", **IMPATIENT) as server:
        yield server


async def answers(server: Listening, *pieces: bytes) -> list[tuple[int, bytes]]:
    """What is answered to these bytes on one connection, up to its end: status and body each, by the lengths told."""
    async with server.client() as client:
        client.send(*pieces)
        return split(await client.rest())


def split(received: bytes) -> list[tuple[int, bytes]]:
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        match = STATUS.match(head)
        assert match is not None, head
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else len(received)
        found.append((int(match[1]), received[:size]))
        received = received[size:]
    return found


TARGETS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
HEADS = st.lists(st.sampled_from(FIELDS), max_size=3)


@given(method=st.sampled_from(METHODS), target=TARGETS, fields=HEADS)
@settings(max_examples=250)
def test_no_way_of_asking_goes_around_the_key(
    engine: Served, closed: Listening, published: Listening, method: str, target: str, fields: list[str]
) -> None:
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *fields, "Connection: close", "", "")).encode()
    for server in (closed, published):
        for status, body in engine.run(answers(server, head)):
            # What needs no key says nothing: the probes are empty, or refuse a method.
            assert status in (400, 401, 405) or (status == 200 and not body), (head, status, body)


@given(method=st.sampled_from(METHODS), target=TARGETS, fields=HEADS)
@settings(max_examples=200)
def test_whoever_may_come_in_is_answered_here_and_sent_nowhere_else(
    engine: Served, closed: Listening, method: str, target: str, fields: list[str]
) -> None:
    kept = [field for field in fields if not field.startswith("Authorization")]
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *kept, KEY.decode(), "Connection: close", "", "")).encode()
    for status, _ in engine.run(answers(closed, head)):
        assert status < 300 or 400 <= status < 500, (head, status)


@pytest.mark.parametrize("sent", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_answered_once_at_most(engine: Served, closed: Listening, sent: str) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: x\r\n" + KEY + b"\r\n"
    told = engine.run(answers(closed, head + AMBIGUOUS[sent]))
    assert len(told) <= 1
    assert all(status == 400 for status, _ in told)


def spoiled(whole: bytes, chance: random.Random) -> bytes:
    """The same with some bytes left out, doubled, replaced or inserted."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        at, width = chance.randrange(len(data)), chance.choice((1, 1, 2, 20))
        match chance.randrange(4):
            case 0:
                del data[at : at + width]
            case 1:
                data[at:at] = data[at : at + width]
            case 2:
                data[at : at + width] = chance.randbytes(width)
            case 3:
                data[at:at] = chance.choice((b"\r\n", b"\n", b"\x00", b" ", b":", b"\xff", b"\r\n\r\n", b"9" * 30))
    return bytes(data)


def pieces(chance: random.Random) -> tuple[bytes, bytes]:
    """A spoiled request in two pieces."""
    data = spoiled(chance.choice((WHOLE, CHUNKED)), chance)
    at = chance.randrange(len(data) + 1)
    return data[:at], data[at:]


def test_spoiled_requests_are_refused_and_nobody_else_notices(engine: Served, closed: Listening) -> None:
    chance = random.Random(6)
    before = engine.run(answers(closed, WHOLE))

    async def some() -> list[list[tuple[int, bytes]]]:
        return await asyncio.gather(*(answers(closed, *pieces(chance)) for _ in range(100)))

    statuses = {status for _ in range(6) for told in engine.run(some()) for status, _ in told[:1]}
    assert statuses >= {200, 400, 401}
    assert max(statuses) < 500
    engine.until(lambda stats: not stats.running and not stats.waiting)
    assert [status for status, _ in engine.run(answers(closed, WHOLE))] == [status for status, _ in before] == [200]


def test_many_requests_at_once_are_answered_in_their_order(engine: Served, closed: Listening) -> None:
    async def ask() -> list[int]:
        async with closed.client() as client:
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
            return [await status_of(client) for _ in range(400)]

    assert engine.run(ask()) == [200, 401] * 200


async def status_of(client: Client) -> int:
    return (await client.answer())[0]


def test_a_stream_that_nobody_reads_ends_in_the_engine_too(engine: Served) -> None:
    body = b'{"prompt": "x", "max_tokens": 1900, "ignore_eos": true, "stream": true, "logprobs": 20}'

    async def listen_to_the_beginning(server: Listening) -> None:
        async with server.client(receive_buffer=10_000) as client:
            client.send(request("/v1/completions", body, b"Content-Type: application/json"))
            await client.reader.readuntil(b"data: ")
            await server.nobody_is_connected()

    with in_front_of(engine, send_buffer=10_000, timeout_unread=0.3) as server, engine.aborting(1):
        engine.run(listen_to_the_beginning(server))
