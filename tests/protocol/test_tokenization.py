"""What /tokenize reads is a text or a conversation."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from quire_protocol import (
    ChatCompletionRequest,
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
    TokenizeRequest,
)

MESSAGES = [{"role": "user", "content": "Hi"}]
EITHER: TypeAdapter[Any] = TypeAdapter(TokenizeRequest)


def refusal_of(body: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as refusal:
        EITHER.validate_python(body)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in refusal.value.errors()]


def test_a_body_with_messages_is_a_conversation() -> None:
    assert isinstance(EITHER.validate_python({"messages": MESSAGES}), TokenizeChatRequest)
    assert isinstance(EITHER.validate_python({"prompt": "Hi"}), TokenizeCompletionRequest)


@pytest.mark.parametrize("request_", [TokenizeChatRequest(messages=MESSAGES), TokenizeCompletionRequest(prompt="Hi")])
def test_a_request_that_is_one_already_stays_one(request_: Any) -> None:
    assert EITHER.validate_python(request_) is request_


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ({}, "prompt", "prompt is required."),
        ([], "", "the body must be an object, got a list of 0."),
        ({"prompt": 5}, "prompt", "prompt must be a string, got 5."),
        ({"messages": [{}]}, "messages.0.role", "messages.0.role is required."),
        (
            {"messages": MESSAGES, "add_generation_prompt": True, "continue_final_message": True},
            "continue_final_message",
            "continue_final_message and add_generation_prompt exclude each other: set one of them to false.",
        ),
    ],
)
def test_a_refusal_is_about_the_kind_that_was_meant(body: Any, place: str, said: str) -> None:
    assert refusal_of(body) == [(place, said)]


def test_token_ids_are_integers() -> None:
    with pytest.raises(ValidationError, match="tokens must be a list"):
        DetokenizeRequest.model_validate({"tokens": "x"})


@pytest.mark.parametrize("kind", [None, 5, "xtype", [], {}])
def test_a_wrong_part_of_a_conversation_is_told_as_chat_tells_it(kind: Any) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": kind}]}]}
    told = []
    for model in (EITHER, TypeAdapter(ChatCompletionRequest)):
        with pytest.raises(ValidationError) as refusal:
            model.validate_python(body)
        told.append([(error["loc"], error["msg"]) for error in refusal.value.errors()])
    assert told[0] == told[1]
    assert told[0][0][0] == ("messages", 0, "content", 0, "type")
