"""A field takes effect, is refused with its reason, or is reported; none is dropped in silence."""

from typing import Any

import pytest
from tests.support.served import Api, error_of

import quire_protocol
from quire_server.refusals import REFUSALS, REPORTS

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ChatCompletionRequest": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    ),
    "CompletionRequest": ("/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
    "GenerateRequest": ("/inference/v1/generate", {"token_ids": [5], "sampling_params": {"max_tokens": 1}}),
    "TokenizeChatRequest": ("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]}),
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
VALUES: dict[str, dict[str, Any]] = {
    "features": {"features": "x"},
    "kv_transfer_params": {"kv_transfer_params": {"a": 1}},
    "mm_processor_kwargs": {"mm_processor_kwargs": {"a": 1}},
}


@pytest.mark.parametrize(("model", "field"), REFUSALS, ids=[f"{model}.{field}" for model, field in REFUSALS])
def test_a_field_that_is_not_built_is_a_400_that_names_it(api: Api, model: str, field: str) -> None:
    path, body = BODIES[model]
    error = api.refusal(path, **body, **VALUES[field])
    assert (error["code"], error["param"]) == (400, field)
    assert error["message"] == f"{field} is not supported here: {REFUSALS[model, field]}."


@pytest.mark.parametrize(("model", "field"), REFUSALS, ids=[f"{model}.{field}" for model, field in REFUSALS])
def test_its_default_is_no_reason_to_refuse(api: Api, model: str, field: str) -> None:
    path, body = BODIES[model]
    api.post(path, **body, **{field: getattr(quire_protocol, model).model_fields[field].default})


@pytest.mark.parametrize("model", ["ChatCompletionRequest", "CompletionRequest"])
def test_text_is_a_format_that_asks_for_nothing(api: Api, model: str) -> None:
    path, body = BODIES[model]
    api.post(path, **body, response_format={"type": "text"})


def test_tools_that_may_not_be_called_are_shown_to_the_model(api: Api) -> None:
    path, body = BODIES["ChatCompletionRequest"]
    bare = api.post(path, **body)["usage"]["prompt_tokens"]
    assert api.post(path, **body, tools=[TOOL], tool_choice="none")["usage"]["prompt_tokens"] > bare


@pytest.mark.parametrize(("model", "field"), REPORTS, ids=[f"{model}.{field}" for model, field in REPORTS])
def test_a_field_without_effect_is_reported_when_it_is_set(api: Api, model: str, field: str) -> None:
    path, body = BODIES[model]
    reported = f"{field} had no effect: {REPORTS[model, field]}."
    answer = api.request("POST", path, json={**body, field: False})
    assert answer.json()["warnings"] == [reported]
    assert answer.headers["x-quire-warnings"] == reported
    assert "warnings" not in api.post(path, **body, **{field: True})


@pytest.mark.parametrize(("model", "field"), REPORTS, ids=[f"{model}.{field}" for model, field in REPORTS])
def test_strict_handling_refuses_a_field_without_effect(api: Api, model: str, field: str) -> None:
    path, body = BODIES[model]
    answer = api.request("POST", path, json={**body, field: False}, headers={"Prefer": "handling=strict"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, field)


@pytest.mark.parametrize("model", ["ChatCompletionRequest", "CompletionRequest"])
@pytest.mark.parametrize(("user", "told"), [("u-7", "u-7"), ("Zoë\r\nX-Evil: 1", "Zo%C3%AB%0D%0AX-Evil:%201")])
def test_the_answer_names_the_user_in_a_header(api: Api, model: str, user: str, told: str) -> None:
    path, body = BODIES[model]
    for extra, status in (({}, 200), ({"top_k": -5}, 400)):
        answer = api.request("POST", path, json={**body, "user": user, **extra})
        assert (answer.status_code, answer.headers["x-quire-user"]) == (status, told)
    assert "x-quire-user" not in api.request("POST", path, json=body).headers


@pytest.mark.parametrize(
    ("field", "hint"),
    [("guided_json", "structured_outputs.json"), ("max_new_tokens", "max_tokens"), ("tempereture", "temperature")],
)
def test_a_known_mistake_is_refused_with_what_was_meant(api: Api, field: str, hint: str) -> None:
    path, body = BODIES["CompletionRequest"]
    error = api.refusal(path, **body, **{field: 1})
    assert (error["code"], error["param"]) == (400, field)
    assert hint in error["message"]


def test_a_field_nobody_knows_is_reported_in_the_answer_and_in_a_header(api: Api) -> None:
    path, body = BODIES["CompletionRequest"]
    answer = api.request("POST", path, json={**body, "xyzzy": 1, "größe\r\nX-Evil": 2})
    first, second = (
        "xyzzy is not a field here: it had no effect.",
        "größe\r\nX-Evil is not a field here: it had no effect.",
    )
    assert answer.json()["warnings"] == [first, second]
    assert answer.headers["x-quire-warnings"].startswith(first)
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("model", ["ChatCompletionRequest", "CompletionRequest"])
def test_a_stream_reports_it_once(api: Api, model: str) -> None:
    path, body = BODIES[model]
    events = api.stream(path, **body, xyzzy=1)
    assert [event.get("warnings") for event in events] == [["xyzzy is not a field here: it had no effect."]] + [
        None
    ] * (len(events) - 1)
