"""Tool calls, reasoning and forms of answers, with the official openai client against a real `quire serve` process.

The model is random. Where it has lines, it says them; where it has none, whatever it says has the form all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field
from tests.support.actor import write_actor
from tests.support.processes import Server, quire_serve

PATIENCE = 60.0
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
ARGUMENTS = '{"city": "Kyoto", "unit": "c"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'


class Animal(BaseModel):
    name: str = Field(max_length=10)
    legs: Literal[0, 2, 4, 6, 8]
    is_tame: bool
    friends: list[Literal["cat", "dog"]] = Field(max_length=2)


@pytest.fixture(scope="module", params=[False, True], ids=["plain-marks", "special-marks"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    actor = write_actor(tmp_path_factory.mktemp("actor"), special_marks=request.param)
    flags = (*actor.flags, "--served-model-name", "actor", "--reasoning-parser", "think_tags")
    with quire_serve(*flags, PYTHONPATH=str(actor.package)) as each:
        yield each


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", timeout=PATIENCE, max_retries=0) as each:
        yield each


def says(*lines: str) -> list[Any]:
    return [{"role": "user", "content": "Please." + "".join(f" [[{line}]]" for line in lines)}]


def ask(client: openai.OpenAI, *lines: str, **asked: Any) -> ChatCompletion:
    """An answer at once, which must be what its stream adds up to."""
    whole = client.chat.completions.create(model="actor", messages=says(*lines), temperature=0, **asked)
    with client.chat.completions.stream(model="actor", messages=says(*lines), temperature=0, **asked) as stream:
        for _ in stream:
            pass
        streamed = stream.current_completion_snapshot
    (one,), (other,) = whole.choices, streamed.choices
    assert (one.finish_reason, one.message.content or "") == (other.finish_reason, other.message.content or "")
    assert called(one.message) == called(other.message)
    return whole


def called(message: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]


def test_the_start_names_the_formats(server: Server) -> None:
    told = " ".join(server.announced)
    assert "as hermes does, as the chat template shows" in told
    assert "as think_tags does, which --reasoning-parser names" in told


def test_a_call_is_a_call_and_what_stands_before_it_is_content(client: openai.OpenAI) -> None:
    (choice,) = ask(client, f"I will look.\n{CALL}", tools=[WEATHER]).choices
    assert called(choice.message) == [("get_weather", ARGUMENTS)]
    assert (choice.message.content or "").strip() == "I will look."
    assert choice.finish_reason == "tool_calls"


def test_several_calls_are_told_apart_and_may_be_held_to_one(client: openai.OpenAI) -> None:
    other = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    lines = f"{CALL}\n{other}"
    (both,) = ask(client, lines, tools=[WEATHER, TIME]).choices
    assert called(both.message) == [("get_weather", ARGUMENTS), ("get_time", "{}")]
    (first,) = ask(client, lines, tools=[WEATHER, TIME], parallel_tool_calls=False).choices
    assert called(first.message) == [("get_weather", ARGUMENTS)]


def test_a_conversation_goes_on_after_a_call(client: openai.OpenAI) -> None:
    messages = says(CALL, "It is 12 degrees.")
    first = client.chat.completions.create(model="actor", messages=messages, tools=[WEATHER], temperature=0)
    message = first.choices[0].message
    assert message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12"}
    messages += [message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model="actor", messages=messages, tools=[WEATHER], temperature=0)
    assert (second.choices[0].message.content, second.choices[0].finish_reason) == ("It is 12 degrees.", "stop")


def test_tools_that_may_not_be_called_are_not(client: openai.OpenAI) -> None:
    (choice,) = ask(client, "No call.", tools=[WEATHER], tool_choice="none").choices
    assert (choice.message.content, choice.message.tool_calls) == ("No call.", [])


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_follows_its_schema_whatever_the_model_wants(client: openai.OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        model="actor",
        messages=says(),
        tools=[WEATHER, TIME],
        tool_choice="required",
        parallel_tool_calls=False,
        seed=seed,
        max_tokens=160,
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    for name, arguments in called(choice.message):
        tool = {"get_weather": WEATHER, "get_time": TIME}[name]
        jsonschema.validate(json.loads(arguments), tool["function"]["parameters"])


def test_a_named_call_is_that_call_and_ends_with_stop(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(
        model="actor", messages=says(), tools=[TIME, WEATHER], tool_choice=named, seed=1, max_tokens=160
    )
    (choice,) = answer.choices
    ((name, arguments),) = called(choice.message)
    assert (name, choice.finish_reason) == ("get_weather", "stop")
    jsonschema.validate(json.loads(arguments), WEATHER["function"]["parameters"])


def test_reasoning_stands_beside_the_answer_and_is_counted(client: openai.OpenAI) -> None:
    whole = ask(client, "<think>\nHm.\n</think>\n\nYes.")
    (choice,) = whole.choices
    assert (choice.message.model_extra["reasoning"], choice.message.content) == ("Hm.", "Yes.")
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 3
    quiet = ask(client, "<think>\nHm.\n</think>\n\nYes.", extra_body={"include_reasoning": False})
    assert quiet.choices[0].message.model_extra["reasoning"] is None
    assert quiet.usage == whole.usage


def test_a_call_may_follow_reasoning(client: openai.OpenAI) -> None:
    (choice,) = ask(client, f"<think>\nWeather?\n</think>\n\n{CALL}", tools=[WEATHER]).choices
    assert choice.message.model_extra["reasoning"] == "Weather?"
    assert called(choice.message) == [("get_weather", ARGUMENTS)]


def test_a_call_that_a_stop_string_cuts_is_told_as_broken(client: openai.OpenAI) -> None:
    (choice,) = ask(client, CALL, tools=[WEATHER], stop=["yoto"]).choices
    assert str(choice.finish_reason) == "error"  # which is none of OpenAI's reasons, so that nobody takes it for one
    assert choice.model_extra is not None
    assert choice.model_extra["error"]["param"] == "tool_calls.0"
    assert called(choice.message) == [("get_weather", '{"city": "K')]


def test_every_token_is_told_beside_reasoning_and_calls(client: openai.OpenAI) -> None:
    whole = ask(client, f"<think>\nHm.\n</think>\n\nWell. {CALL}", tools=[WEATHER], logprobs=True, top_logprobs=1)
    (choice,) = whole.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert whole.usage is not None
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    assert "".join(each.token for each in choice.logprobs.content).startswith(
        "<think>\nHm.\n</think>\n\nWell. <tool_call>"
    )


def test_a_budget_ends_the_reasoning(client: openai.OpenAI) -> None:
    lines = "<think>\n" + "Hm. " * 50 + "\n</think>\n\nYes."
    whole = ask(client, lines, max_tokens=64, extra_body={"thinking_token_budget": 8})
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert 1 <= (whole.usage.completion_tokens_details.reasoning_tokens or 0) <= 8
    assert whole.choices[0].message.model_extra["reasoning"].startswith("Hm.")


@pytest.mark.parametrize("seed", range(3))
def test_a_pydantic_model_is_parsed(client: openai.OpenAI, seed: int) -> None:
    answer = client.chat.completions.parse(
        model="actor", messages=says(), response_format=Animal, seed=seed, max_tokens=120
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)
    assert answer.choices[0].finish_reason == "stop"


def test_a_pydantic_tool_is_parsed(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Animal)
    answer = client.chat.completions.parse(
        model="actor", messages=says(), tools=[tool], tool_choice="required", seed=5, max_tokens=300
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert all(isinstance(call.function.parsed_arguments, Animal) for call in calls)


def test_a_form_begins_where_reasoning_ends(client: openai.OpenAI) -> None:
    lines = '<think>\nA cat?\n</think>\n\n{"name": "Tom", "legs": 4, "is_tame": true, "friends": []}'
    answer = client.chat.completions.parse(
        model="actor", messages=says(lines), response_format=Animal, temperature=0, max_tokens=200
    )
    message = answer.choices[0].message
    assert message.model_extra["reasoning"] == "A cat?"
    assert message.parsed == Animal(name="Tom", legs=4, is_tame=True, friends=[])


@pytest.mark.parametrize(
    ("form", "allowed"),
    [({"choice": ["yes", "no"]}, {"yes", "no"}), ({"regex": "[ab]{2}"}, {"aa", "ab", "ba", "bb"})],
)
def test_completions_take_forms_too(client: openai.OpenAI, form: dict[str, Any], allowed: set[str]) -> None:
    answer = client.completions.create(
        model="actor", prompt=["a", "b"], n=2, max_tokens=8, extra_body={"structured_outputs": form}
    )
    assert {choice.text for choice in answer.choices} <= allowed
    assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 4


def test_a_schema_that_cannot_be_enforced_is_refused_with_its_place(client: openai.OpenAI) -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "nonsense"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="actor", messages=says(), response_format=form, stream=True)
    assert refused.value.param is not None
    assert refused.value.param.startswith("response_format")
    assert "/properties/a" in refused.value.message
