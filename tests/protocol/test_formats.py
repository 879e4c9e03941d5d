"""`response_format`, and the one constraint that it and `structured_outputs` come to."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from quire_protocol import CompletionRequest, StructuredOutputsParams

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NAMED = {"name": "thing", "schema": SCHEMA}
LEGACY = {
    "type": "structural_tag",
    "structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}],
    "triggers": ["<f>"],
}


def constraint(**given: Any) -> StructuredOutputsParams | None:
    request = CompletionRequest(prompt="Hi", **given)
    return request.to_sampling_params(16, None).structured_outputs


def refusal_of(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        constraint(**given)
    return [error["msg"] for error in refusal.value.errors()]


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, StructuredOutputsParams(json_object=True)),
        ({"type": "json_schema", "json_schema": NAMED}, StructuredOutputsParams(json=SCHEMA)),
    ],
)
def test_a_form_is_a_constraint(form: Any, asked: StructuredOutputsParams | None) -> None:
    assert constraint(response_format=form) == asked


@pytest.mark.parametrize("tag", [LEGACY, {"type": "structural_tag", "format": {"type": "any_text"}}])
def test_a_structural_tag_is_passed_on_as_json_in_either_spelling(tag: dict[str, Any]) -> None:
    asked = constraint(response_format=tag)
    assert asked is not None
    assert asked.structural_tag is not None
    assert json.loads(asked.structural_tag) == tag


def test_options_go_together_with_a_form() -> None:
    asked = constraint(
        response_format={"type": "json_schema", "json_schema": NAMED},
        structured_outputs={"disable_any_whitespace": True},
    )
    assert asked == StructuredOutputsParams(json=SCHEMA, disable_any_whitespace=True)


def test_plain_text_leaves_structured_outputs_alone() -> None:
    asked = constraint(response_format={"type": "text"}, structured_outputs={"regex": "a+"})
    assert asked == StructuredOutputsParams(regex="a+")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("json_object", 'response_format must be an object, got "json_object".'),
        ({}, "response_format.type is required."),
        (
            {"type": "yaml"},
            "response_format.type must be 'text', 'json_object', 'json_schema' or 'structural_tag', got \"yaml\".",
        ),
        (
            {"type": "json_schema"},
            "response_format.json_schema is required when the type is json_schema: give a name and a schema.",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "thing"}},
            "response_format.json_schema.schema is required: without one, use the type json_object.",
        ),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name is required."),
        ({"type": "structural_tag"}, "response_format.format is required."),
        ({"type": "structural_tag", "structures": []}, "response_format.triggers is required."),
    ],
)
def test_a_form_that_is_none_is_one_sentence(form: Any, said: str) -> None:
    assert refusal_of(response_format=form) == [said]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"structured_outputs": "json"}, 'structured_outputs must be an object, got "json".'),
        ({"structured_outputs": {"guided_json": {}}}, "structured_outputs.guided_json is not a known field."),
        (
            {"structured_outputs": {}},
            "structured_outputs has no constraint: "
            "give one of json, regex, choice, grammar, json_object, structural_tag.",
        ),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs asks for regex and response_format for json_object: keep one of them.",
        ),
    ],
)
def test_constraints_that_contradict_or_constrain_nothing_are_refused(given: dict[str, Any], said: str) -> None:
    assert refusal_of(**given) == [said]


def test_sampling_changes_nothing_in_the_request() -> None:
    request = CompletionRequest(
        prompt="Hi",
        response_format={"type": "json_object"},
        structured_outputs={"disable_any_whitespace": True},
        kv_transfer_params={"from": "here"},
        vllm_xargs={"speed": 2},
    )
    before = request.model_copy(deep=True)
    assert request.to_sampling_params(16, None) == request.to_sampling_params(16, None)
    assert request == before
