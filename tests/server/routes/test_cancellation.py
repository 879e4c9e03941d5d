"""DELETE /v1/requests/{id} and POST /inference/v1/abort_requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.served import Api, error_of
from tests.support.stepped import Client, Stepped, stepped

PATHS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 400}, "chatcmpl-"),
    "/v1/completions": ({"prompt": ["Go on.", "And on."], "max_tokens": 400}, "cmpl-"),
    "/inference/v1/generate": ({"token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 400}}, ""),
}
ABORT = "/inference/v1/abort_requests"


async def running(server: Stepped, path: str, stream: bool = False, **headers: str) -> Client:
    """A request that has some tokens."""
    client = server.post(path, {**PATHS[path][0], "ignore_eos": True, "stream": stream}, **headers)
    await server.until(lambda: server.link.is_told)
    await server.step(2)
    return client


async def aborted(client: Client) -> Any:
    """Its answer, without a step: a status of 200, and every choice says that it was aborted."""
    status, answer = await client.answer()
    assert status == 200
    choices = [choice for each in (answer if isinstance(answer, list) else [answer]) for choice in each["choices"]]
    assert {each["finish_reason"] for each in choices} <= {None, "abort"}
    assert choices[-1]["finish_reason"] == "abort"
    return answer


async def rests(server: Stepped) -> bool:
    """Whether two steps more generate nothing."""
    generated = server.link.engine.stats().generation_tokens
    await server.step(2)
    return server.link.engine.stats().generation_tokens == generated


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_ends_by_its_own_id_or_its_answers(path: str, stream: bool) -> None:
    async def scenario() -> None:
        async with stepped() as server:
            for prefix in ("", PATHS[path][1]):
                client = await running(server, path, stream, x_request_id="mine/1")
                status, told = await server.ask("DELETE", f"/v1/requests/{prefix}mine/1")
                assert (status, told) == (200, {"id": f"{prefix}mine/1", "object": "request", "cancelled": True})
                await aborted(client)
                assert await rests(server)

    asyncio.run(scenario())


def test_a_whole_answer_has_what_there_is_and_its_usage() -> None:
    async def scenario() -> None:
        async with stepped() as server:
            client = await running(server, "/v1/completions", x_request_id="mine")
            assert (await server.ask("POST", ABORT, {"request_ids": ["mine", "gone"]}))[1] == {"request_ids": ["mine"]}
            answer = await aborted(client)
            assert answer["usage"]["completion_tokens"] == server.link.engine.stats().generation_tokens > 0

    asyncio.run(scenario())


def test_what_waits_is_cancelled_too() -> None:
    async def scenario() -> None:
        async with stepped() as server:
            client = server.post("/v1/completions", PATHS["/v1/completions"][0], x_request_id="mine")
            await server.until(lambda: server.link.is_told)
            assert (await server.ask("DELETE", "/v1/requests/mine"))[0] == 200
            answer = await aborted(client)
            assert [choice["text"] for choice in answer["choices"]] == ["", ""]
            assert await rests(server)
            assert server.link.engine.stats().generation_tokens == 0

    asyncio.run(scenario())


def test_a_request_belongs_to_the_key_that_made_it_and_to_admins() -> None:
    async def scenario() -> None:
        async with stepped(api_key=("hers", "his"), admin_key=("boss",)) as server:
            hers, his, boss = ({"authorization": f"Bearer {key}"} for key in ("hers", "his", "boss"))
            clients = [await running(server, "/v1/completions", x_request_id="same", **key) for key in (hers, his)]
            others = [await running(server, "/v1/completions", x_request_id=name, **hers) for name in ("a", "b")]
            status, refusal = await server.ask("DELETE", "/v1/requests/a", **his)
            assert (status, refusal["error"]["param"]) == (404, "request_id")
            assert (await server.ask("POST", ABORT, {"request_ids": ["a", "b"]}, **his))[1] == {"request_ids": []}
            assert (await server.ask("DELETE", "/v1/requests/same", **hers))[0] == 200
            await aborted(clients[0])
            assert not clients[1].task.done()
            told = await server.ask("POST", ABORT, {"request_ids": ["a", "same", "b"]}, **boss)
            assert told[1] == {"request_ids": ["a", "same", "b"]}
            for client in (clients[1], *others):
                await aborted(client)
            assert await rests(server)

    asyncio.run(scenario())


def test_what_does_not_run_is_404_and_passed_over_among_several(api: Api) -> None:
    error = error_of(api.request("DELETE", "/v1/requests/never"))
    assert (error["code"], error["param"]) == (404, "request_id")
    assert error["message"] == 'No request with the id "never" is being answered here.'
    assert api.post(ABORT, request_ids=["never"]) == {"request_ids": []}


@pytest.mark.parametrize("body", [{}, {"request_ids": []}, {"request_ids": "x"}, {"request_ids": [1]}])
def test_ids_are_a_list_of_texts(api: Api, body: dict[str, Any]) -> None:
    assert api.refusal(ABORT, **body)["param"].startswith("request_ids")


def test_fields_that_nobody_knows_are_told(api: Api) -> None:
    assert "soon" in api.post(ABORT, request_ids=["never"], soon=True)["warnings"][0]
