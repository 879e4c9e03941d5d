"""Fields that change nothing because of what else a request says are told, and refused under strict handling."""

from typing import Any

import pytest
from tests.server.test_refusals import BODIES
from tests.support.served import Api, Served, error_of

COMPLETION, CHAT, GENERATE = "CompletionRequest", "ChatCompletionRequest", "GenerateRequest"


def params(**asked: Any) -> dict[str, Any]:
    return {"sampling_params": {"max_tokens": 1, **asked}}


def search(temperature: float = 0, **asked: Any) -> dict[str, Any]:
    beams = {"beam_width": 2, "max_tokens": 1, "temperature": temperature}
    return {"beam_search": beams, **params(n=2, **asked)}


LOOK: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "look"}}], "max_tokens": 60}
AS_JSON = {"response_format": {"type": "json_object"}}
QUIET_STREAM = {"stream": True, "stream_options": {"include_usage": False, "continuous_usage_stats": True}}
IDLE: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"max_tokens": 3, "max_completion_tokens": 1}, "max_tokens"),
    (CHAT, {"length_penalty": 2}, "length_penalty"),
    (CHAT, {**LOOK, "tool_choice": "required", **AS_JSON}, "response_format"),
    (
        CHAT,
        {**LOOK, "tool_choice": {"type": "function", "function": {"name": "look"}}, **AS_JSON},
        "response_format",
    ),
    (COMPLETION, {"length_penalty": 2}, "length_penalty"),
    (COMPLETION, {"use_beam_search": True, "top_k": 3}, "top_k"),
    (COMPLETION, QUIET_STREAM, "stream_options.continuous_usage_stats"),
    (CHAT, QUIET_STREAM, "stream_options.continuous_usage_stats"),
    (GENERATE, QUIET_STREAM, "stream_options.continuous_usage_stats"),
    (GENERATE, params(include_stop_str_in_output=True, stop="x"), "sampling_params.include_stop_str_in_output"),
    (GENERATE, params(skip_special_tokens=False), "sampling_params.skip_special_tokens"),
    (GENERATE, params(spaces_between_special_tokens=False), "sampling_params.spaces_between_special_tokens"),
    (GENERATE, params(output_kind=1), "sampling_params.output_kind"),
    (GENERATE, {"stream": True, **params(output_kind=2)}, "sampling_params.output_kind"),
    (GENERATE, search(temperature=0.5), "beam_search.temperature"),
    (GENERATE, search(temperature=1, top_p=0.5), "sampling_params.top_p"),
]
BUSY: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 1}),
    (CHAT, {**LOOK, "tool_choice": "required", "response_format": {"type": "text"}}),
    (CHAT, {"max_tokens": None, "max_completion_tokens": 1}),
    (COMPLETION, {"use_beam_search": True, "length_penalty": 2, "top_k": -1, "temperature": 0}),
    (COMPLETION, {"stream": True, "stream_options": {"continuous_usage_stats": True}}),
    (GENERATE, params(skip_special_tokens=False, stop="x")),
    (GENERATE, params(output_kind=2)),
    (GENERATE, {"stream": True, **params(output_kind=1)}),
    (GENERATE, search()),
]


@pytest.mark.parametrize(("model", "asked", "field"), IDLE, ids=str)
def test_a_field_that_something_else_makes_idle_is_told(
    api: Api, model: str, asked: dict[str, Any], field: str
) -> None:
    path, body = BODIES[model]
    answer = api.request("POST", path, json={**body, **asked})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-quire-warnings"].startswith(f"{field} had no effect: ")
    assert f"{field} had no effect: " in answer.text
    refused = api.request("POST", path, json={**body, **asked}, headers={"Prefer": "handling=strict"})
    assert (refused.status_code, error_of(refused)["param"]) == (400, field)


@pytest.mark.parametrize(("model", "asked"), BUSY, ids=str)
def test_a_field_that_takes_effect_is_not(api: Api, model: str, asked: dict[str, Any]) -> None:
    path, body = BODIES[model]
    answer = api.request("POST", path, json={**body, **asked}, headers={"Prefer": "handling=strict"})
    assert answer.status_code == 200, answer.text
    assert "x-quire-warnings" not in answer.headers


def test_usage_that_the_server_tells_anyway_may_be_asked_for_on_every_event(engine: Served) -> None:
    path, body = BODIES[COMPLETION]
    events = engine.api(enable_force_include_usage=True).stream(path, **{**body, **QUIET_STREAM})
    assert all(event["usage"] for event in events)
    assert not any("warnings" in event for event in events)
