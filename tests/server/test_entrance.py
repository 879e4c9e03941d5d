"""Who comes before the model is loaded is told so, in the envelope of every error; who asks for life hears of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.responses import PlainTextResponse
from tests.support.served import error_of

from quire_server.entrance import Entrance


def ask(entrance: Entrance, path: str, **scope: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(entrance, **scope)
        async with httpx.AsyncClient(transport=transport, base_url="http://quire.test") as client:
            return await client.get(path)

    return asyncio.run(send())


def test_it_lives_before_there_is_anything_to_serve() -> None:
    answer = ask(Entrance(), "/livez")
    assert (answer.status_code, answer.content) == (200, b"")
    assert ask(Entrance(), "/proxied/livez", root_path="/proxied").status_code == 200


def test_all_else_is_asked_to_come_back() -> None:
    for path in ("/health", "/v1/models", "/v1/livez"):
        answer = ask(Entrance(), path)
        assert (answer.status_code, error_of(answer)["type"]) == (503, "ServiceUnavailableError")
        assert answer.headers["retry-after"] == "1"


def test_who_comes_after_the_parting_is_not_waited_for() -> None:
    async def check() -> None:
        entrance, gates = Entrance(), {"early": asyncio.Event(), "late": asyncio.Event()}

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await gates[scope["path"]].wait()

        def come(path: str) -> asyncio.Task[None]:
            return asyncio.create_task(entrance({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]

        entrance.open(wait)
        early = come("early")
        await asyncio.sleep(0)
        inside = entrance.part()
        late = come("late")
        await asyncio.sleep(0)
        assert not inside.is_empty
        gates["early"].set()
        await inside.until_empty()
        assert (early.done(), inside.is_empty, late.done()) == (True, True, False)
        gates["late"].set()
        await late

    asyncio.run(asyncio.wait_for(check(), 20))


def test_it_steps_aside_for_the_application() -> None:
    entrance = Entrance()
    entrance.open(PlainTextResponse("here"))
    assert ask(entrance, "/livez").text == "here"
