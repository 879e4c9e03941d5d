"""How long a request may take: what its header says, within what the server allows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import Request
from tests.support.served import Api, error_of
from tests.support.stepped import Stepped, stepped

from quire_engine.errors import RequestError
from quire_server.deadlines import deadline_of

ARRIVED = 1000.0


def asked(timeout: str | None) -> Request:
    headers = [] if timeout is None else [(b"x-request-timeout", timeout.encode("latin-1", "replace"))]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("timeout", "longest", "seconds"),
    [
        (None, None, None),
        (None, 60.0, 60.0),
        ("2.5", None, 2.5),
        ("30", 60.0, 30.0),
        ("90", 60.0, 60.0),
        ("0.001", None, 0.001),
    ],
)
def test_a_client_may_ask_for_less_than_the_server_allows(
    timeout: str | None, longest: float | None, seconds: float | None
) -> None:
    assert deadline_of(asked(timeout), longest, ARRIVED) == (None if seconds is None else ARRIVED + seconds)


@pytest.mark.parametrize("timeout", ["", "0", "0.0", "-1", "soon", "nan", "inf", "1e3", "1_0", " 5s", "٣", "9" * 99])
def test_what_is_no_number_of_seconds_is_refused(timeout: str) -> None:
    with pytest.raises(RequestError, match=r"x-request-timeout is a number of seconds above 0") as error:
        deadline_of(asked(timeout), 9.0, ARRIVED)
    assert error.value.param == "x-request-timeout"


def test_more_than_one_is_refused() -> None:
    both = [(b"x-request-timeout", b"3"), (b"x-request-timeout", b"30")]
    with pytest.raises(RequestError, match="2 times"):
        deadline_of(Request({"type": "http", "headers": both}), None, ARRIVED)


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": 400,
        "ignore_eos": True,
    },
    "/v1/completions": {"prompt": ["Go on.", "And on."], "max_tokens": 400, "ignore_eos": True},
    "/inference/v1/generate": {"token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 400, "ignore_eos": True}},
}


async def wait_until(moment: float, server: Stepped) -> None:
    await server.until(lambda: time.monotonic() > moment)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
def test_a_request_whose_deadline_passes_in_line_is_504(path: str, stream: bool) -> None:
    async def scenario() -> None:
        async with stepped() as server:
            client = server.post(path, {**BODIES[path], "stream": stream}, x_request_timeout="0.5")
            await server.until(lambda: server.link.is_told)
            await wait_until(time.monotonic() + 0.6, server)
            await server.step()
            status, answer = await client.answer()
            assert status == 504
            assert (answer["error"]["code"], answer["error"]["reason"]) == (504, "deadline_exceeded")
            assert client.header("x-should-retry") == "false"
            assert server.link.engine.stats().generation_tokens == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
def test_an_answer_whose_deadline_passes_is_what_there_is(path: str, stream: bool) -> None:
    async def scenario() -> None:
        async with stepped(request_timeout=4.0) as server:
            began = time.monotonic()
            client = server.post(path, {**BODIES[path], "stream": stream}, x_request_timeout="60")
            await server.until(lambda: server.link.is_told)
            await server.step(3)
            generated = server.link.engine.stats().generation_tokens
            assert generated > 0
            await wait_until(began + 4.1, server)
            await server.step(2)
            status, answer = await client.answer()
            assert status == 200
            choices = [choice for each in (answer if stream else [answer]) for choice in each["choices"]]
            prompts = 2 if path == "/v1/completions" else 1
            assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["timeout"] * prompts
            assert server.link.engine.stats().generation_tokens == generated

    asyncio.run(scenario())


def test_a_header_that_is_no_number_is_400(api: Api) -> None:
    for path, body in BODIES.items():
        answer = api.request("POST", path, json=body, headers={"x-request-timeout": "soon"})
        error = error_of(answer)
        assert (error["code"], error["param"]) == (400, "x-request-timeout")
