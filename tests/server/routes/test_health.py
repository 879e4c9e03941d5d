"""GET and HEAD /livez, /readyz and /health, GET and POST /ping, GET /load, GET /version."""

import asyncio

import pytest
from tests.support.served import Api, Served, error_of, served
from tests.support.stepped import stepped

from quire_server import __version__


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, path) for path in ("/livez", "/readyz", "/health") for method in ("GET", "HEAD")),
        ("GET", "/ping"),
        ("POST", "/ping"),
    ],
)
def test_a_live_engine_is_healthy(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_engine_that_has_ended_is_not() -> None:
    with served() as each:
        api = each.api()
        each.run(each.engine.close())
        answer = api.get("/health")
        assert (answer.status_code, error_of(answer)["type"]) == (503, "ServiceUnavailableError")
        assert api.get("/readyz").status_code == 503
        assert api.refusal("/v1/completions", prompt="x")["code"] == 503


def test_a_server_that_is_about_to_end_is_healthy_but_not_ready_and_refuses_what_comes(engine: Served) -> None:
    api = engine.api()
    api.app.state.serving.closing.begin()
    refused = api.get("/readyz")
    assert (refused.status_code, error_of(refused)["reason"]) == (503, "shutting_down")
    assert {api.get(path).status_code for path in ("/livez", "/health", "/ping", "/v1/models", "/load")} == {200}
    for path in ("/v1/completions", "/tokenize"):
        answer = api.request("POST", path, json={"prompt": "x"})
        assert (answer.status_code, error_of(answer)["reason"]) == (503, "shutting_down")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")


def test_the_load_is_how_many_prompts_there_are_to_answer() -> None:
    async def scenario() -> None:
        async with stepped() as server:
            assert await server.ask("GET", "/load") == (200, {"server_load": 0})
            client = server.post("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2, "ignore_eos": True})
            await server.until(lambda: server.link.is_told)
            assert await server.ask("GET", "/load") == (200, {"server_load": 2})
            await server.step(4)
            await client.answer()
            assert await server.ask("GET", "/load") == (200, {"server_load": 0})

    asyncio.run(scenario())


def test_the_version_is_this_packages(api: Api) -> None:
    assert api.get("/version").json() == {"version": __version__}
