"""GET /v1/capabilities says what is true: of fields, formats and limits, as requests meet them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.test_refusals import BODIES, VALUES
from tests.support.served import Api, Served

from quire_server.refusals import REFUSALS, REPORTS


def told(api: Api) -> dict[str, Any]:
    answer = api.get("/v1/capabilities")
    assert answer.status_code == 200
    content: dict[str, Any] = answer.json()
    return content


def test_each_field_of_each_request_stands_in_one_place(api: Api) -> None:
    requests = told(api)["requests"]
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    assert {"ChatCompletionRequest", "CompletionRequest", "GenerateRequest", "DetokenizeRequest"} <= requests.keys()
    for name, fields in requests.items():
        places = [*fields["honoured"], *fields["refused"], *fields["without_effect"]]
        assert len(places) == len({*places})
        assert {*schemas[name]["properties"]} == {*places}


@pytest.mark.parametrize(("model", "field"), REFUSALS, ids=[f"{model}.{field}" for model, field in REFUSALS])
def test_a_field_that_it_calls_refused_is_refused_for_that_reason(api: Api, model: str, field: str) -> None:
    reason = told(api)["requests"][model]["refused"][field]
    path, body = BODIES[model]
    assert reason in api.refusal(path, **body, **VALUES[field])["message"]


@pytest.mark.parametrize(("model", "field"), REPORTS, ids=[f"{model}.{field}" for model, field in REPORTS])
def test_a_field_that_it_calls_idle_is_told_to_be(api: Api, model: str, field: str) -> None:
    reason = told(api)["requests"][model]["without_effect"][field]
    path, body = BODIES[model]
    assert any(reason in warning for warning in api.post(path, **body, **{field: False})["warnings"])


def test_its_limits_are_those_that_requests_meet(api: Api) -> None:
    limits = told(api)["limits"]
    longest, words = limits["max_model_len"], limits["vocab_size"]
    assert f"{longest}" in api.refusal("/v1/completions", prompt=[7] * (longest + 1))["message"].replace(",", "")
    assert api.refusal("/v1/completions", prompt=[words])["param"] == "prompt"
    assert api.refusal("/v1/completions", prompt="x", logprobs=limits["max_logprobs"] + 1)["param"] == "logprobs"
    assert limits["request_timeout"] is None


def test_its_routes_are_there(api: Api) -> None:
    routes = told(api)["routes"]
    assert routes["/v1/chat/completions"] == ["POST"]
    assert routes["/ping"] == ["GET", "POST"]
    assert routes["/v1/requests/{request_id}"] == ["DELETE"]
    for path in routes:
        if "{" not in path:
            assert api.request("PATCH", path).status_code == 405


def test_formats_are_those_that_are_used_and_known(api: Api, engine: Served) -> None:
    assert told(api)["tool_calls"]["used"] == "hermes"
    other = told(engine.api(tool_call_parser="mistral", reasoning_parser="none"))
    assert (other["tool_calls"]["used"], other["reasoning"]["used"]) == ("mistral", None)
    assert {"hermes", "mistral"} <= {*other["tool_calls"]["known"]}


@pytest.mark.parametrize("form", ["text", "json_object", "json_schema", "structural_tag"])
def test_each_form_of_answers_that_it_names_is_known(api: Api, form: str) -> None:
    assert form in told(api)["response_formats"]
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert "bogus" not in told(api)["response_formats"]
    refused = api.request("POST", "/v1/chat/completions", json={**body, "response_format": {"type": form}})
    assert "'text', 'json_object', 'json_schema' or 'structural_tag'" not in refused.text


def test_it_is_closed_without_a_key(engine: Served) -> None:
    assert engine.api(api_key=("k",)).get("/v1/capabilities").status_code == 401
