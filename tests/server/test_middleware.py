"""What every request passes before a route sees it."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from tests.support.served import Api, Served, error_of

from quire_server.dependencies import admin_only
from quire_server.keys import Caller, keys_of
from quire_server.middleware import PUBLIC_PATHS, Guard, caller_of
from quire_server.routes import ADMIN, routers

KEY = {"Authorization": "Bearer second"}


@pytest.fixture(scope="module")
def guarded(engine: Served) -> Api:
    return engine.api(api_key=("first", "second"), admin_key=("root",), enable_tokenizer_info_endpoint=True)


def flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Routes, also those that FastAPI keeps in the routers that they came in."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from [route] if inner is None else flat(inner.routes)


def walked(api: Api) -> list[tuple[str, str]]:
    """Every method of every route of the application, those that FastAPI adds included."""
    found = [route for route in flat(api.app.routes) if isinstance(route, Route)]
    tables = [route for router in (*routers(api.settings), *ADMIN) for route in router.routes]
    assert {route.path for route in found} >= {route.path for route in tables if isinstance(route, Route)}
    return [(method, route.path) for route in found for method in sorted(route.methods or ())]


def test_every_route_but_the_probes_wants_a_key(guarded: Api) -> None:
    ways = walked(guarded)
    paths = {path for _, path in ways}
    assert paths >= {"/v1/chat/completions", "/docs", "/openapi.json", "/tokenizer_info", "/ping", "/version", "/livez"}
    for method, path in ways:
        answer = guarded.request(method, path)
        assert (answer.status_code == 401) == (path not in PUBLIC_PATHS), path


@pytest.mark.parametrize(
    "path", ["//health", "/health/", "/v1/models?/health", "/health%2f..%2fv1/models", "/health;/v1/models", "/HEALTH"]
)
def test_no_way_of_writing_a_path_goes_around_the_key(guarded: Api, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer third", "Basic second", "second", "Bearer first second", "Bearer sécond"],
)
def test_a_wrong_key_is_401_in_the_envelope(guarded: Api, header: str) -> None:
    answer = guarded.get("/v1/models", headers={"Authorization": header.encode()})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert error_of(answer)["type"] == "AuthenticationError"


def test_two_keys_at_once_are_none(guarded: Api) -> None:
    both = [("Authorization", "Bearer first"), ("Authorization", "Bearer second")]
    assert guarded.get("/v1/models", headers=both).status_code == 401


def test_paths_are_opened_by_name_and_nothing_beneath_them(engine: Served) -> None:
    api = engine.api(api_key=("first",), public_paths=("/version", "/v1"))
    assert api.get("/version").status_code == 200
    assert {api.get(path).status_code for path in ("/v1/models", "/ping", "/version/", "/versions")} == {401}


@pytest.mark.parametrize("header", ["Bearer first", "Bearer second", "bearer second", "Bearer root"])
def test_any_of_the_keys_opens(guarded: Api, header: str) -> None:
    assert guarded.get("/v1/models", headers={"Authorization": header}).status_code == 200


def test_one_key_for_everything_closes_the_server(engine: Served) -> None:
    api = engine.api(api_key=("both",), admin_key=("both",))
    assert api.settings.needs_keys
    assert api.get("/v1/models").status_code == 401
    assert api.get("/v1/models", headers=bearer("both")).status_code == 200


def with_an_admin_route(engine: Served, **settings: Any) -> Api:
    """An application with one more route, which is for administration, and one that says who asks."""
    api = engine.api(**settings)

    @api.app.post("/raze", dependencies=[Depends(admin_only)])
    async def raze() -> str:
        return "razed"

    @api.app.get("/whoami")
    async def whoami(http: Request) -> tuple[str, float, bool]:
        caller: Caller = caller_of(http)
        return caller.name, caller.weight, caller.is_admin

    return api


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_for_administration_needs_an_admin_key(guarded: Api) -> None:
    for router in ADMIN:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods:
                assert guarded.request(method, route.path, headers=KEY).status_code == 403, route.path


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        ({"api_key": ("first",), "admin_key": ("root", "boss")}, "first", 403),
        ({"api_key": ("first",), "admin_key": ("root", "boss")}, "boss", 200),
        ({"admin_key": ("root",)}, "root", 200),
        ({"admin_key": ("root",)}, "first", 401),
        ({"api_key": ("first",)}, "first", 403),
        ({}, "first", 403),
        ({"public_paths": ("/raze",), "admin_key": ("root",), "api_key": ("first",)}, "none", 401),
    ],
)
def test_administration_is_for_admin_keys_alone(engine: Served, settings: Any, key: str, status: int) -> None:
    answer = with_an_admin_route(engine, **settings).request("POST", "/raze", headers=bearer(key))
    assert answer.status_code == status
    if status != 200:
        assert error_of(answer)["type"] == {401: "AuthenticationError", 403: "PermissionDeniedError"}[status]


def test_routes_know_who_asks(engine: Served, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("alice:one:3\n")
    api = with_an_admin_route(engine, api_key=("first",), admin_key=("root",), api_key_file=str(tmp_path / "keys"))
    told = [api.get("/whoami", headers=bearer(key)).json() for key in ("first", "one", "root")]
    assert told == [["key-1", 1.0, False], ["alice", 3.0, False], ["admin", 1.0, True]]
    assert with_an_admin_route(engine).get("/whoami", headers=bearer("one")).json() == ["", 1.0, False]


@pytest.mark.parametrize("can_say_so", [True, False])
def test_a_websocket_needs_a_key_too(engine: Served, can_say_so: bool) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send(scope["state"]["caller"])

    def ask(headers: list[tuple[bytes, bytes]]) -> Any:
        extensions = {"websocket.http.response": {}} if can_say_so else {}
        scope = {"type": "websocket", "path": "/v1/realtime", "headers": headers, "extensions": extensions}
        engine.run(Guard(inner, keys_of(["first"], []))(scope, receive, send))
        return sent.pop(0)

    refused = ask([])
    sent.clear()
    if can_say_so:
        assert (refused["type"], refused["status"]) == ("websocket.http.response.start", 401)
    else:
        assert refused == {"type": "websocket.close", "code": 1008}
    assert ask([(b"authorization", b"Bearer first")]) == Caller("key-1")


def test_a_probe_needs_no_key_behind_a_proxy_either(engine: Served) -> None:
    api = replace(engine.api(api_key=("first",)), root_path="/llm")
    assert api.get("/llm/health").status_code == 200
    assert api.get("/llm/v1/models").status_code == 401
    assert api.get("/llm/v1/models", headers={"Authorization": "Bearer first"}).status_code == 200


def test_a_browser_may_ask_before_it_has_a_key(engine: Served) -> None:
    api = engine.api(api_key=("first",), allowed_origins=("https://app.test",))
    asking = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    assert api.request("OPTIONS", "/v1/chat/completions", headers=asking).status_code == 200
    refused = api.get("/v1/models", headers={"Origin": "https://app.test"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.test")


def test_a_browser_is_told_the_id_of_what_it_asked_and_may_read_when_to_come_back(engine: Served) -> None:
    api = engine.api(allowed_origins=("https://app.test",))
    asking = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST", "X-Request-Id": "mine"}
    assert api.request("OPTIONS", "/v1/chat/completions", headers=asking).headers["x-request-id"] == "mine"
    exposed = api.get("/v1/models", headers={"Origin": "https://app.test"}).headers["access-control-expose-headers"]
    assert {"X-Request-Id", "Retry-After", "x-should-retry", "Server-Timing"} <= {*exposed.split(", ")}


def test_no_origin_is_allowed_unless_named(api: Api) -> None:
    assert "access-control-allow-origin" not in api.get("/health", headers={"Origin": "https://app.test"}).headers


def test_a_request_keeps_the_id_that_its_header_brings(api: Api) -> None:
    body = {"prompt": "x", "max_tokens": 1, "request_id": "from-body"}
    named = api.request("POST", "/v1/completions", json=body, headers={"X-Request-Id": "from-header"})
    assert (named.headers["x-request-id"], named.json()["id"]) == ("from-header", "cmpl-from-header")
    unnamed = api.request("POST", "/v1/completions", json=body)
    assert (unnamed.headers["x-request-id"], unnamed.json()["id"]) == ("from-body", "cmpl-from-body")


@pytest.mark.parametrize("given", ["duck 🦆", "a\r\nX-Evil: 1", ""])
def test_an_id_that_no_header_may_hold_stays_in_the_body(api: Api, given: str) -> None:
    answer = api.request("POST", "/v1/completions", json={"prompt": "x", "max_tokens": 1, "request_id": given})
    assert answer.json()["id"] == f"cmpl-{given}"
    assert "x-evil" not in answer.headers
    assert len(answer.headers["x-request-id"]) == 32


def test_a_request_without_an_id_gets_one(api: Api) -> None:
    first, second = (api.get("/health").headers["x-request-id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("given", ["x" * 129, "a b", "naïve".encode()])
def test_an_id_that_fits_no_log_line_is_replaced(api: Api, given: Any) -> None:
    sent = given if isinstance(given, bytes) else given.encode()
    assert api.get("/health", headers={"X-Request-Id": sent}).headers["x-request-id"].encode() != sent


def test_a_body_that_is_announced_too_large_is_not_read(engine: Served) -> None:
    api = engine.api(max_body_bytes=2000)
    answer = api.request("POST", "/v1/completions", json={"prompt": "x" * 3000})
    assert answer.status_code == 413
    assert "2000 bytes" in error_of(answer)["message"]


def test_a_body_that_turns_out_too_large_is_not_read_on(engine: Served) -> None:
    app, sent, read = engine.api(max_body_bytes=2000).app, [], 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 900, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": headers}
    engine.run(asyncio.wait_for(app(scope, receive, send), 10))
    assert (sent[0]["status"], read) == (413, 3)


def test_a_body_within_the_limit_passes(engine: Served) -> None:
    assert (
        engine.api(max_body_bytes=2000).post("/v1/completions", prompt="x", max_tokens=1)["object"] == "text_completion"
    )
