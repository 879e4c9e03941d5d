"""Messages and their content, as chat templates will read them."""

from typing import Any

import pytest
from pydantic import ValidationError

from quire_protocol import ChatCompletionRequest, ChatMessage

URL = "https://example.org/a"


def read(*messages: Any) -> list[Any]:
    return list(ChatCompletionRequest(messages=list(messages)).messages)


def refusal_of(*messages: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        read(*messages)
    return [error["msg"] for error in refusal.value.errors()]


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function", "critic"])
def test_every_role_may_speak(role: str) -> None:
    assert read({"role": role, "content": "Hi"}) == [{"role": role, "content": "Hi"}]


@pytest.mark.parametrize(
    "part",
    [
        "plain text",
        {"type": "text", "text": "Hi"},
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "image_url", "image_url": URL},
        {"type": "image_url", "image_url": None, "uuid": "cached"},
        {"image_url": URL},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": URL}},
        {"audio_url": URL},
        {"type": "video_url", "video_url": {"url": URL}},
        {"video_url": URL},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "image_embeds", "image_embeds": {"grid": "AAAA"}},
        {"type": "audio_embeds", "audio_embeds": "AAAA"},
        {"type": "prompt_embeds", "prompt_embeds": "AAAA"},
        {"type": "refusal", "refusal": "No."},
        {"type": "thinking", "thinking": "Hm.", "closed": True},
        {"type": "file", "file": {"file_id": "f"}},
    ],
)
def test_every_kind_of_content_is_kept_as_it_is(part: Any) -> None:
    message = {"role": "user", "content": [part]}
    assert read(message) == [message]


def test_keys_that_nobody_knows_are_kept() -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
        "mood": "good",
    }
    assert read(message) == [message]


@pytest.mark.parametrize(
    "message",
    [
        {
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"tool_calls": [{"function": {"name": "f"}}]},
        {"content": "Hi", "tool_calls": None},
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"content": "4", "reasoning": "2 + 2", "reasoning_content": "2 + 2"},
        {"content": None, "refusal": "No."},
        {"audio": {"id": "a"}},
    ],
)
def test_an_assistant_s_earlier_answer_is_kept_as_it_is(message: dict[str, Any]) -> None:
    assert read({"role": "assistant", **message}) == [{"role": "assistant", **message}]


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = ChatMessage(role="assistant", content="Hi", reasoning="Greet.").model_dump()
    assert read(answer) == [answer]


def test_the_caller_s_messages_stay_as_they_are() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    (kept,) = read(message)
    kept["content"] = "changed"
    assert message == {"role": "user", "content": [{"type": "text", "text": "Hi"}]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (5, "messages.0 must be an object, got 5."),
        ({}, "messages.0.role is required."),
        ({"role": 5}, "messages.0.role must be a string, got 5."),
        ({"role": "user", "content": 5}, "messages.0.content must be a string or a list, got 5."),
        ({"role": "user", "content": None}, "messages.0.content must be a string or a list, got null."),
        ({"role": "critic", "content": [5]}, "messages.0.content.0 must be an object, got 5."),
        ({"role": "user", "content": [{}]}, "messages.0.content.0.type is required."),
        ({"role": "user", "content": ["a", {"type": "text"}]}, "messages.0.content.1.text is required."),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"uri": URL}}]},
            "messages.0.content.0.image_url.url is required.",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}]},
            "messages.0.content.0.input_audio.format must be 'wav' or 'mp3', got \"ogg\".",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            "messages.0.tool_calls.0.function.name is required.",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]},
            "messages.0.tool_calls.0.function.arguments must be a string or an object, got 5.",
        ),
        (
            {"role": "assistant", "tool_calls": {}},
            "messages.0.tool_calls must be a list, got an object.",
        ),
    ],
)
def test_a_wrong_message_is_one_short_sentence(message: Any, said: str) -> None:
    assert refusal_of(message) == [said]


@pytest.mark.parametrize("kind", ["picture", 7, None])
def test_a_part_of_a_kind_that_nobody_knows_is_refused_with_the_kinds_there_are(kind: object) -> None:
    (said,) = refusal_of({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": kind}]})
    assert said.startswith("messages.0.content.1.type must be one of 'text', 'image_url', 'input_audio', ")


def test_the_first_wrong_message_is_the_one_told() -> None:
    assert refusal_of({"role": "user", "content": "Hi"}, {"content": "Hi"}, 5) == ["messages.1.role is required."]


def test_a_large_wrong_body_is_one_error_and_not_a_hundred_thousand() -> None:
    assert len(refusal_of(*[{}] * 100_000)) == 1


def test_an_object_in_the_json_schema_matches_one_kind_of_message() -> None:
    kinds = ChatCompletionRequest.model_json_schema()["$defs"]
    known = {kinds[name]["properties"]["role"].get("const") for name in kinds if name.endswith("Message")} - {None}
    assert {*kinds["CustomMessage"]["properties"]["role"]["not"]["enum"]} == known
