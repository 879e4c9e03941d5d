"""How an answer leaves as events: all of them, an error as one more, and a sign of life while nothing comes."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from quire_protocol import ErrorInfo, sse
from quire_server.errors import AnswerFailed
from quire_server.streams import FAILED, KEEP_ALIVE, ClientGone, EventStream, unless_gone

PATIENCE = 30.0


class Client:
    """Takes what is sent, and leaves after so many messages with a body."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.messages: list[Any] = []
        self.scope: dict[str, Any] = {"type": "http"}
        self.left = asyncio.Event()
        self.leaves_after = leaves_after

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.bodies) == self.leaves_after:
            self.left.set()

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]


async def spoken(*texts: str, silence: float = 0, error: Exception | None = None) -> AsyncGenerator[list[ErrorInfo]]:
    for text in texts:
        await asyncio.sleep(silence)
        yield [ErrorInfo(message=text, type="spoken", code=200)]
    if error is not None:
        raise error


def client_of(stream: EventStream, client: Client) -> Client:
    async def serve() -> None:
        async with asyncio.timeout(PATIENCE):
            await stream(client.scope, client.receive, client.send)

    asyncio.run(serve())
    return client


def test_the_last_message_has_the_end_and_is_the_last_one() -> None:
    client = client_of(EventStream(spoken("a", "b")), Client())
    assert [message.get("more_body") for message in client.messages] == [None, True, True, False]
    assert client.bodies[-1] == b"data: [DONE]\n\n"
    assert FAILED not in client.scope.get("state", {})


def test_chunks_that_are_there_together_leave_in_one_message() -> None:
    async def come() -> AsyncGenerator[list[ErrorInfo]]:
        yield [each async for found in spoken(*"abc") for each in found]

    client = client_of(EventStream(come()), Client())
    assert len(client.bodies) == 2
    assert [event.json()["message"] for event in sse.decode(client.bodies[0].splitlines())] == ["a", "b", "c"]


def test_an_error_on_the_way_is_an_event_before_the_end() -> None:
    client = client_of(EventStream(spoken("a", error=AnswerFailed("It broke."))), Client())
    assert b'"message":"It broke."' in client.bodies[-1]
    assert client.bodies[-1].endswith(b"data: [DONE]\n\n")
    assert client.scope["state"][FAILED]


def test_an_error_before_the_first_event_is_raised_so_that_it_becomes_a_status() -> None:
    client = Client()
    with pytest.raises(AnswerFailed, match="It broke"):
        client_of(EventStream(spoken(error=AnswerFailed("It broke."))), client)
    assert client.messages == []


def test_an_error_behind_a_comment_is_an_event() -> None:
    async def late() -> AsyncGenerator[ErrorInfo]:
        while not client.bodies:
            await asyncio.sleep(0)
        raise AnswerFailed("It broke.")
        yield

    client = Client()
    client_of(EventStream(late(), keep_alive=0.01), client)
    assert client.bodies[0] == KEEP_ALIVE
    assert b'"message":"It broke."' in client.bodies[-1]


def test_while_nothing_comes_a_comment_does() -> None:
    client = client_of(EventStream(spoken("a", silence=0.3), keep_alive=0.01), Client())
    comments = client.bodies.index(next(body for body in client.bodies if body != KEEP_ALIVE))
    assert comments > 1
    assert len(client.bodies) == comments + 2


def test_silence_is_counted_from_the_last_event() -> None:
    silence = 0.0

    async def come() -> AsyncGenerator[list[ErrorInfo]]:
        nonlocal silence
        async for each in spoken("a", silence=0.1):
            yield each
        began = time.monotonic()
        while KEEP_ALIVE not in client.bodies:
            await asyncio.sleep(0.01)
        silence = time.monotonic() - began

    client = Client()
    client_of(EventStream(come(), keep_alive=0.5), client)
    assert 0.4 < silence < 0.8


@pytest.mark.parametrize("keep_alive", [0, PATIENCE])
def test_comments_come_only_after_their_time(keep_alive: float) -> None:
    client = client_of(EventStream(spoken("a", "b"), keep_alive=keep_alive), Client())
    assert KEEP_ALIVE not in client.bodies


def test_a_client_that_leaves_closes_the_chunks() -> None:
    closed = []

    async def endless() -> AsyncGenerator[list[ErrorInfo]]:
        try:
            async for each in spoken(*"abc"):
                yield each
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    client = client_of(EventStream(endless(), keep_alive=0.01), Client(leaves_after=2))
    assert closed == [True]
    assert b"data: [DONE]\n\n" not in client.bodies


async def hears(*messages: str | Exception) -> Any:
    """What unless_gone() makes of work that ends never, while this is heard of its client."""
    heard = [*messages]

    async def receive() -> Any:
        if isinstance(message := heard.pop(0), Exception):
            raise message
        return {"type": message}

    return await unless_gone(asyncio.Event().wait(), receive)


@pytest.mark.parametrize("message", ["http.disconnect", ConnectionError("gone")], ids=["leaves", "is not heard"])
def test_a_client_that_leaves_ends_the_work_and_nothing_else(message: str | Exception) -> None:
    async def serve() -> int:
        with pytest.raises(ClientGone):
            await hears("http.request", message)
        await asyncio.sleep(0)  # the task goes on: it was not cancelled for good
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(serve()) == 0


def test_who_cancels_the_work_from_outside_is_not_taken_for_a_client_that_leaves() -> None:
    async def serve() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await unless_gone(asyncio.Event().wait(), asyncio.Event().wait)  # type: ignore[arg-type]

    asyncio.run(serve())


def test_an_error_of_the_work_is_raised_as_it_is() -> None:
    async def fails() -> None:
        raise KeyError("?")

    async def serve() -> None:
        with pytest.raises(KeyError):
            await unless_gone(fails(), asyncio.Event().wait)  # type: ignore[arg-type]

    asyncio.run(serve())
