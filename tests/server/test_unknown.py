"""Fields that nothing here knows: three policies of the server, and the client's own wish."""

from typing import Any

import httpx
import pytest
from tests.support.served import Api, Served, error_of

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/inference/v1/generate": {"token_ids": [5], "sampling_params": {"max_tokens": 1}},
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [5]},
}
STRICT = {"Prefer": "handling=strict"}
TOLD = "xyzzy is not a field here: it had no effect."


def asked(api: Api, path: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return api.request("POST", path, json={**BODIES[path], **fields}, headers=headers)


@pytest.fixture(scope="module", params=["warn", "refuse", "ignore"])
def any_policy(engine: Served, request: pytest.FixtureRequest) -> Api:
    return engine.api(unknown_fields=request.param)


@pytest.mark.parametrize("path", BODIES)
def test_unless_told_otherwise_the_answer_and_a_header_name_them(engine: Served, path: str) -> None:
    answer = asked(engine.api(), path, xyzzy=1)
    assert (answer.status_code, answer.json()["warnings"]) == (200, [TOLD])
    assert answer.headers["x-quire-warnings"] == TOLD


@pytest.mark.parametrize("path", BODIES)
def test_they_can_be_refused(engine: Served, path: str) -> None:
    error = error_of(asked(engine.api(unknown_fields="refuse"), path, xyzzy=1))
    assert (error["code"], error["param"]) == (400, "xyzzy")
    assert "leave it out" in error["message"]


@pytest.mark.parametrize("path", BODIES)
def test_they_can_be_ignored(engine: Served, path: str) -> None:
    answer = asked(engine.api(unknown_fields="ignore"), path, xyzzy=1)
    assert (answer.status_code, "warnings" in answer.json()) == (200, False)
    assert "x-quire-warnings" not in answer.headers


def test_a_stream_of_ids_names_them_once(engine: Served) -> None:
    path = "/inference/v1/generate"
    first, *rest = engine.api().stream(path, **BODIES[path], xyzzy=1)
    assert first["warnings"] == [TOLD]
    assert not any("warnings" in event for event in rest)


@pytest.mark.parametrize("field", ["guided_json", "best_of", "tempereture"])
def test_what_is_mistaken_for_something_is_refused_under_every_policy(any_policy: Api, field: str) -> None:
    error = error_of(asked(any_policy, "/v1/completions", **{field: 1}))
    assert (error["code"], error["param"]) == (400, field)


@pytest.mark.parametrize("path", BODIES)
def test_a_client_may_ask_for_strictness_under_every_policy(any_policy: Api, path: str) -> None:
    refused = asked(any_policy, path, STRICT, xyzzy=1)
    assert error_of(refused)["param"] == "xyzzy"
    assert "strict" in error_of(refused)["message"]
    served = asked(any_policy, path, STRICT)
    assert served.status_code == 200
    assert [each.headers["preference-applied"] for each in (refused, served)] == ["handling=strict"] * 2


def test_a_strict_stream_says_so_too(engine: Served) -> None:
    answer = asked(engine.api(), "/v1/completions", STRICT, stream=True)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "handling=strict")


@pytest.mark.parametrize(
    "header",
    ['HANDLING="strict"', "wait=5, handling=strict;x=y", " handling = Strict ", "handling=strict,handling=lenient"],
)
def test_a_preference_may_be_written_in_many_ways(engine: Served, header: str) -> None:
    assert asked(engine.api(), "/v1/completions", {"Prefer": header}, xyzzy=1).status_code == 400


@pytest.mark.parametrize(
    "header", ["handling=lenient", "respond-async", "", "strict", "handling=lenient,handling=strict"]
)
def test_another_preference_changes_nothing(engine: Served, header: str) -> None:
    answer = asked(engine.api(), "/v1/completions", {"Prefer": header}, xyzzy=1)
    assert (answer.status_code, answer.json()["warnings"]) == (200, [TOLD])
    assert "preference-applied" not in answer.headers
