"""Clients that are too large, too slow, or do not listen: each loses its own connection, in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from tests.support.listening import Client, listening, request, run

from quire_server import middleware
from quire_server.connection import AHEAD
from quire_server.middleware import BodyLimit

SOON = 0.3
"""Seconds that these servers are patient for, where they are to lose it."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await answer(send, body)


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers without a look at the body."""
    await answer(send, b"no", 401)


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


class Talkative:
    """Sends without an end, until told that nobody is there."""

    def __init__(self) -> None:
        self.sent = 0
        self.was_told = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        talking = asyncio.create_task(self._talk(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        talking.cancel()
        self.was_told.set()

    async def _talk(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            self.sent += 10_000
            await asyncio.sleep(0)


async def told(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the field that it is sent."""
    await answer(send, dict(scope["headers"])[b"x-word"])


def test_spaces_around_a_fields_value_are_none_of_it() -> None:
    async def check() -> None:
        async with listening(told) as server, server.client() as client:
            for value in (b"a b", b"  a b", b"a b \t "):
                client.send(request("/", b"", b"X-Word:" + value))
                assert await client.answer() == (200, b"a b")

    run(check())


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def check() -> None:
        async with listening(echo) as server, server.client() as client:
            assert await client.ask(body=b"one") == (200, b"one")
            client.send(request(body=b"two"), request(body=b"three"), request(body=b"four")[:30])
            assert [await client.answer(), await client.answer()] == [(200, b"two"), (200, b"three")]
            client.send(request(body=b"four")[30:])
            assert await client.answer() == (200, b"four")

    run(check())


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_has_a_size(pieces: int) -> None:
    async def check() -> None:
        async with (
            listening(echo, h11_max_incomplete_event_size=2000) as server,
            server.client() as client,
        ):
            fits = request("/", b"body", b"X: " + b"x" * 1800)
            client.send(*(fits[at : at + 400] for at in range(0, len(fits), 400)))
            assert await client.answer() == (200, b"body")
            large = request("/", b"", b"X: " + b"x" * 2000)
            step = -(-len(large) // pieces)
            client.send(*(large[at : at + step] for at in range(0, len(large), step)))
            status, message = await client.refusal()
        assert (status, "larger than 2000 bytes" in message) == (431, True)

    run(check())


def test_a_head_without_an_end_is_not_read_on() -> None:
    async def check() -> None:
        async with listening(echo, h11_max_incomplete_event_size=2000) as server, server.client() as client:
            client.send(b"GET / HTTP/1.1\r\nX: ", *[b"x" * 500] * 5)
            assert (await client.refusal())[0] == 431

    run(check())


def test_a_head_has_few_fields() -> None:
    async def check() -> None:
        async with listening(echo, h11_max_header_count=10) as server, server.client() as client:
            client.send(request("/", b"", *[b"X: y"] * 8))
            assert (await client.answer())[0] == 200
            client.send(request("/", b"", *[b"X: y"] * 9))
            assert await client.refusal() == (
                431,
                "The head of the request is larger than 10 fields (--h11-max-header-count).",
            )

    run(check())


def test_a_body_may_be_larger_than_any_head() -> None:
    async def check() -> None:
        async with listening(echo, h11_max_incomplete_event_size=2000) as server, server.client() as client:
            for _ in range(2):
                assert await client.ask(body=b"x" * 300_000) == (200, b"x" * 300_000)

    run(check())


@pytest.mark.parametrize("before", [0, 1])
def test_a_head_that_does_not_come_to_its_end_is_408(before: int) -> None:
    async def check() -> None:
        async with listening(echo, timeout_header=SOON) as server, server.client() as client:
            for _ in range(before):
                assert await client.ask(body=b"one") == (200, b"one")
            client.send(b"POST / HTTP/1.1\r\nHost")
            status, message = await client.refusal()
            assert (status, message) == (408, f"The head was not complete after {SOON} s (--timeout-header).")

    run(check())


@asynccontextmanager
async def trickling(client: Client, start: bytes) -> AsyncIterator[None]:
    """Meanwhile the client goes on with what it began, a byte at a time."""

    async def trickle() -> None:
        client.send(start)
        while True:
            await asyncio.sleep(SOON / 10)
            client.send(b"x")

    slowly = asyncio.create_task(trickle())
    try:
        yield
    finally:
        slowly.cancel()


def test_a_head_that_comes_byte_by_byte_gets_no_more_time() -> None:
    async def check() -> None:
        async with (
            listening(echo, timeout_header=SOON) as server,
            server.client() as client,
            trickling(client, b"GET / HTTP/1.1\r\nX: "),
        ):
            assert (await client.answer())[0] == 408

    run(check())


def test_who_asks_for_nothing_is_told_nothing() -> None:
    async def check() -> None:
        async with (
            listening(echo, timeout_header=SOON, timeout_keep_alive=1) as server,
            server.client() as silent,
            server.client() as done,
        ):
            assert (await done.ask())[0] == 200
            assert await silent.rest() == await done.rest() == b""

    run(check())


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 20,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        "GET /ü HTTP/1.1\r\n\r\n".encode(),
    ],
)
def test_what_is_not_http_is_400(sent: bytes) -> None:
    async def check() -> None:
        async with listening(echo) as server, server.client() as client:
            client.send(sent)
            assert await client.refusal() == (400, "What was sent is not a request in HTTP/1.1.")

    run(check())


def test_a_body_that_breaks_off_in_nonsense_is_400_and_whoever_reads_it_is_told() -> None:
    told = asyncio.Event()

    async def read(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async def check() -> None:
        async with listening(read) as server, server.client() as client:
            client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
            assert (await client.refusal())[0] == 400
            await told.wait()

    run(check())


def test_nonsense_behind_a_request_does_not_get_into_its_answer() -> None:
    async def check() -> None:
        app = Talkative()
        async with listening(app) as server:
            async with server.client() as client:
                client.send(request())
                await client.reader.readexactly(100)
                client.send(b"\x00\x00\x00")
                assert b"400" not in await client.reader.readexactly(20_000_000)
            await app.was_told.wait()

    run(check())


class Gate:
    """Answers with the body once it is opened, or hears that nobody is there."""

    def __init__(self) -> None:
        self.came, self.may_answer, self.was_told = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.served = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.served += 1
        leaving = asyncio.create_task(self._hear(receive))
        self.came.set()
        await self.may_answer.wait()
        leaving.cancel()
        await answer(send, body)

    async def _hear(self, receive: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        self.was_told.set()
        self.may_answer.set()


LARGE = request("/", b"", b"X: " + b"x" * 3000)


@pytest.mark.parametrize(
    "behind", [b"\x00\x00", LARGE, request("/", b"next") + b"\x00", request("/", b"x" * 2 * AHEAD)]
)
def test_an_answer_that_is_due_comes_whatever_is_sent_behind_its_request(behind: bytes) -> None:
    async def check() -> None:
        app = Gate()
        async with listening(app, h11_max_incomplete_event_size=2000) as server, server.client() as client:
            client.send(request("/", b"first"))
            await app.came.wait()
            client.send(behind)
            await server.until(lambda one: one.has_ended)
            app.may_answer.set()
            assert await client.answer() == (200, b"first")
            assert await client.rest() == b""
        assert (app.served, app.was_told.is_set()) == (1, False)

    run(check())


@pytest.mark.parametrize("size", [0, 100_000])
@pytest.mark.parametrize("kind", [Gate, Talkative])
def test_who_leaves_ends_what_runs_even_with_more_behind_it(kind: type[Gate | Talkative], size: int) -> None:
    async def check() -> None:
        app = kind()
        async with listening(app) as server:
            async with server.client() as client:
                client.send(request())
                await (app.came.wait() if isinstance(app, Gate) else client.reader.readexactly(100))
                client.send(request("/", b"x" * size), request())
                await server.until(lambda one: bool(one.pipeline))
            await app.was_told.wait()

    run(check())


def test_those_who_do_not_fit_are_told_so_and_the_others_stay() -> None:
    async def check() -> None:
        async with listening(echo, connections=1) as server:
            async with server.client() as first:
                assert await first.ask(body=b"one") == (200, b"one")
                async with server.client() as second:
                    status, told = await second.refusal()
                    assert (status, told.split(",")[0]) == (503, "1 clients are connected")
                assert await first.ask(body=b"two") == (200, b"two")
            await server.everybody_has_left()
            async with server.client() as third:
                assert await third.ask(body=b"three") == (200, b"three")

    run(check())


def test_a_body_must_come_in_time() -> None:
    async def check() -> None:
        async with (
            listening(BodyLimit(echo_or_refusal, 10_000, SOON)) as server,
            server.client() as client,
            trickling(client, request("/", b"x" * 5000)[:-4000]),
        ):
            status, body = await client.answer()
        assert status == 408
        allowed = f"{SOON} s and a second per 1024 bytes, 600 s at most"
        assert body.decode() == f"The body was not there after {allowed} (--timeout-body)."

    run(check())


def test_a_body_may_come_for_so_long_at_most_however_much_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "SLOWEST", 1)
    monkeypatch.setattr(middleware, "LONGEST_BODY", 2 * SOON)

    async def endless() -> Any:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def read_all(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    async def check() -> None:
        with pytest.raises(HTTPException) as refusal:
            await BodyLimit(read_all, 1 << 40, SOON)({"type": "http", "headers": []}, endless, endless)
        assert refusal.value.status_code == 408

    run(check())


async def echo_or_refusal(scope: Any, receive: Any, send: Any) -> None:
    try:
        await echo(scope, receive, send)
    except HTTPException as error:
        await answer(send, error.detail.encode(), error.status_code)


def test_a_body_that_is_refused_unread_may_be_sent_to_its_end() -> None:
    async def check() -> None:
        async with listening(refuse) as server, server.client() as client:
            whole = request(body=b"x" * 200_000)
            client.send(whole[:1000])
            assert await client.answer() == (401, b"no")
            client.send(whole[1000:])
            assert await client.ask() == (401, b"no")

    run(check())


def test_a_body_that_is_refused_unread_is_not_listened_to_for_ever() -> None:
    async def check() -> None:
        async with (
            listening(refuse, timeout_header=SOON) as server,
            server.client() as client,
            trickling(client, request(body=b"x" * 200_000)[:1000]),
        ):
            assert await client.answer() == (401, b"no")
            assert await client.rest() == b""

    run(check())


def test_an_answer_that_nobody_reads_ends_and_takes_little_memory() -> None:
    async def check() -> None:
        app = Talkative()
        async with (
            listening(app, send_buffer=10_000, timeout_unread=SOON) as server,
            server.client(receive_buffer=10_000) as client,
        ):
            client.send(request())
            await app.was_told.wait()
        assert app.sent < 1_000_000

    run(check())


def test_an_answer_that_is_read_slowly_is_read_to_its_end() -> None:
    async def check() -> None:
        async with (
            listening(echo, send_buffer=10_000, timeout_unread=5 * SOON) as server,
            server.client(receive_buffer=10_000) as client,
        ):
            client.send(request(body=b"x" * 500_000))
            assert len((await client.answer())[1]) == 500_000

    run(check())


def test_an_answer_in_one_piece_is_not_cut_while_any_of_it_is_taken() -> None:
    async def check() -> None:
        async with (
            listening(echo, send_buffer=10_000, timeout_unread=2 * SOON) as server,
            server.client(receive_buffer=10_000) as client,
        ):
            client.send(request(body=b"x" * 500_000))
            await client.reader.readuntil(b"\r\n\r\n")
            got = 0
            while got < 500_000:
                await asyncio.sleep(SOON / 15)
                piece = await client.reader.read(8_000)
                assert piece, f"cut after {got} bytes"
                got += len(piece)

    run(check())


@pytest.mark.parametrize("field", [b"Connection: close", b"Connection: keep-alive"])
def test_the_end_of_an_answer_that_nobody_reads_does_not_keep_its_connection(field: bytes) -> None:
    async def check() -> None:
        async with (
            listening(echo, send_buffer=5000, timeout_unread=SOON, timeout_keep_alive=1) as server,
            server.client(receive_buffer=5000) as client,
        ):
            client.writer.transport.pause_reading()
            client.send(request("/", b"x" * 60_000, field))
            await server.nobody_is_connected()

    run(check())


@pytest.mark.parametrize("at", [10, 90, 150, 160, 163])
def test_who_would_rather_speak_another_protocol_is_answered_in_this_one(at: int) -> None:
    async def check() -> None:
        async with listening(echo) as server, server.client() as client:
            offer = request("/", b"body", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x")
            client.send(offer[:at])
            await asyncio.sleep(SOON / 10)
            client.send(offer[at:] + request("/", b"next"))
            assert [await client.answer() for _ in range(2)] == [(200, b"body"), (200, b"next")]
            client.send(offer)
            assert await client.answer() == (200, b"body")
            client.send(request("/", b"last", b"Connection: close, upgrade", b"Upgrade: websocket"))
            assert (await client.answer(), await client.rest()) == ((200, b"last"), b"")

    run(check())


def test_offers_of_another_protocol_wait_for_their_turn() -> None:
    async def check() -> None:
        async with listening(echo) as server, server.client() as client:
            client.send(request("/", b"", b"Connection: Upgrade", b"Upgrade: h2c") * 2000)
            assert (await client.answer(), await client.rest()) == ((200, b""), b"")

    run(check())


@pytest.mark.parametrize("target", ["example.org:443", "/health", "//health"])
def test_nobody_gets_a_tunnel(target: str) -> None:
    async def check() -> None:
        async with listening(echo) as server, server.client() as client:
            client.send(f"CONNECT {target} HTTP/1.1\r\nHost: example.org\r\n\r\n".encode())
            assert await client.refusal() == (400, "This server opens no tunnels (CONNECT).")

    run(check())
