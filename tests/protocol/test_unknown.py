"""Unknown fields: kept, found by name wherever they are, and told what was probably meant."""

from typing import Any

import pytest

from quire_protocol import (
    KNOWN_MISTAKES,
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    ResponsesRequest,
    unknown_fields,
)


def chat(**given: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(**{"messages": [{"role": "user", "content": "Hi"}], **given})


def test_a_request_of_known_fields_has_none() -> None:
    request = chat(
        temperature=0.5,
        tools=[{"function": {"name": "f"}}],
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"any": "thing"}}},
        stream=True,
        stream_options={"include_usage": True},
    )
    assert unknown_fields(request) == {}


def test_an_unknown_field_is_kept_and_reported() -> None:
    request = chat(shoe_size=42)
    assert request.model_extra == {"shoe_size": 42}
    assert unknown_fields(request) == {"shoe_size": None}


@pytest.mark.parametrize("name", KNOWN_MISTAKES)
def test_a_known_mistake_has_a_hint(name: str) -> None:
    assert unknown_fields(chat(**{name: 1})) == {name: KNOWN_MISTAKES[name]}


@pytest.mark.parametrize("request_", [ChatCompletionRequest, CompletionRequest])
def test_a_known_mistake_is_no_field(request_: type[ChatCompletionRequest | CompletionRequest]) -> None:
    assert not {*KNOWN_MISTAKES} & {*request_.model_fields}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("repetion_penalty", "repetition_penalty"),
        ("max_token", "max_tokens"),
        ("Temperature", "temperature"),
        ("stop_token_id", "stop_token_ids"),
        ("structured_output", "structured_outputs"),
        ("presence_penality", "presence_penalty"),
    ],
)
def test_a_misspelling_is_recognised(name: str, meant: str) -> None:
    assert unknown_fields(chat(**{name: 1})) == {name: f"did you mean {meant}?"}


def test_the_fields_of_the_request_at_hand_are_what_was_meant() -> None:
    assert unknown_fields(DetokenizeRequest(tokens=[], token=[1])) == {"token": "did you mean tokens?"}


def test_a_field_s_name_in_python_is_not_its_name_on_the_wire() -> None:
    request = chat(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "json_schema": {}}}
    )
    assert unknown_fields(request) == {"response_format.json_schema.json_schema": "use schema"}


def test_nested_fields_are_reported_by_their_path() -> None:
    request = chat(
        tools=[{"function": {"name": "f"}}, {"function": {"name": "g", "stable": True}, "cache": 1}],
        stream=True,
        stream_options={"include_usages": True},
    )
    assert unknown_fields(request) == {
        "tools.1.cache": None,
        "tools.1.function.stable": None,
        "stream_options.include_usages": "did you mean include_usage?",
    }


def test_keys_of_messages_are_the_chat_template_s_business() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi", "own": 1}], "own": 2}
    assert unknown_fields(chat(messages=[message])) == {}


def test_openai_s_own_types_are_not_ours_to_judge() -> None:
    tool = {"type": "function", "name": "f", "parameters": {}, "strict": True, "own": 1}
    request = ResponsesRequest(input=[{"role": "user", "content": "Hi", "own": 1}], tools=[tool], shoe_size=42)
    assert unknown_fields(request) == {"shoe_size": None}
