"""Messages reach the template as it reads them, and what it cannot read is refused by name."""

from __future__ import annotations

import pytest

from quire_engine.errors import RequestError
from quire_engine.text.conversation import content_text, conversation


def as_strings(*messages: dict[str, object]) -> list[dict[str, object]]:
    return conversation(messages, wants_parts=False, takes_strings=True)


def as_parts(*messages: dict[str, object], takes_strings: bool = True) -> list[dict[str, object]]:
    return conversation(messages, wants_parts=True, takes_strings=takes_strings)


def refused(*messages: dict[str, object]) -> RequestError:
    with pytest.raises(RequestError) as error:
        as_strings(*messages)
    return error.value


def test_parts_become_one_string_for_a_template_of_strings():
    parts = [{"type": "text", "text": "one"}, "two", {"type": "refusal", "refusal": "no"}]
    assert as_strings({"role": "user", "content": parts}) == [{"role": "user", "content": "one\ntwo\nno"}]


@pytest.mark.parametrize("content", ["one", "", None, ["one", {"type": "text", "text": "two"}], []])
def test_a_messages_text_is_what_a_template_of_strings_gets(content):
    message = {"role": "user", "content": content}
    assert content_text(message) == as_strings(message)[0]["content"]


def test_parts_stay_parts_for_a_template_that_loops_over_them():
    parts = [{"type": "text", "text": "one", "cache_control": {}}, {"type": "thinking", "thinking": "hm"}]
    texts = [{"type": "text", "text": "one"}, {"type": "text", "text": "hm"}]
    assert as_parts({"role": "user", "content": parts}) == [{"role": "user", "content": texts}]


def test_strings_become_parts_only_for_a_template_that_takes_nothing_else():
    message = {"role": "user", "content": "one"}
    assert as_parts(message) == [message]
    assert as_parts(message, takes_strings=False)[0]["content"] == [{"type": "text", "text": "one"}]
    assert as_parts({"role": "assistant"}, takes_strings=False)[0]["content"] == []


def test_nulls_are_left_out_and_a_missing_content_is_empty():
    message = {"role": "assistant", "content": None, "name": None, "tool_calls": []}
    assert as_strings(message) == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "data:,"}}, {"image_url": "x"}, {}])
def test_what_is_not_text_is_refused_by_its_place(part):
    error = refused({"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": ""}, part]})
    assert error.param == "messages.1.content.1"
    assert "text only" in str(error)


def test_a_text_part_needs_its_text():
    assert refused({"role": "user", "content": [{"type": "text"}]}).param == "messages.0.content.0"


def test_arguments_of_earlier_tool_calls_are_given_as_objects():
    calls = [{"id": "c1", "function": {"name": "f", "arguments": text}} for text in ('{"a": 1}', "", {"b": 2}, None)]
    [message] = as_strings({"role": "assistant", "content": "", "tool_calls": calls})
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == [{"a": 1}, {}, {"b": 2}, {}]
    assert message["tool_calls"][0]["id"] == "c1"
    assert calls[0]["function"]["arguments"] == '{"a": 1}'


@pytest.mark.parametrize("arguments", ["{", "[1]", "3"])
def test_arguments_that_are_no_json_object_are_refused_by_their_place(arguments):
    calls = [{"function": {"name": "f", "arguments": arguments}}]
    error = refused({"role": "assistant", "tool_calls": calls})
    assert error.param == "messages.0.tool_calls.0.function.arguments"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_earlier_reasoning_is_there_under_every_name_templates_use(name):
    [message] = as_strings({"role": "assistant", "content": "x", name: "because"})
    assert {message[known] for known in ("reasoning", "reasoning_content", "thinking")} == {"because"}


def test_an_empty_conversation_is_refused():
    assert refused().param == "messages"


def test_the_clients_own_messages_are_not_touched():
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": [], "reasoning": "r"}
    as_strings(message)
    assert message == {
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}],
        "tool_calls": [],
        "reasoning": "r",
    }
