"""What the embedded default is there to show, with the official openai client against a real `quire serve` process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict
from tests.support.processes import Server, quire_serve

PATIENCE = 60.0
GREEDY: dict[str, Any] = {"model": "quire-demo", "temperature": 0, "max_tokens": 160}


def tool(name: str, description: str, *texts: str) -> Any:
    """A function that takes texts, as a request describes it."""
    parameters = {"type": "object", "properties": {text: {"type": "string"} for text in texts}, "required": [*texts]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Get the weather in a city.", "city"),
    tool("send_message", "Send a message.", "person", "subject"),
]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    item: str
    customer: str
    quantity: int


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with quire_serve("--dtype", "float32", "--enable-prompt-tokens-details") as each:
        yield each


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", timeout=PATIENCE, max_retries=0) as each:
        yield each


def says(*turns: str) -> list[Any]:
    """A conversation in which the user begins."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


def called(message: Any) -> list[tuple[str, Any]]:
    """Names and arguments of a message's calls."""
    return [(each.function.name, json.loads(each.function.arguments)) for each in message.tool_calls or ()]


def test_it_says_who_it_is_and_goes_on_talking(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(messages=says("Who are you?"), **GREEDY).choices[0].message.content
    assert first is not None
    assert first.startswith("I am the small demo model that comes with Quire")
    then = client.chat.completions.create(messages=says("Who are you?", first, "Thank you!"), **GREEDY)
    assert then.choices[0].message.content == "You are welcome."


def test_a_sum_is_thought_through_before_it_is_said(client: openai.OpenAI) -> None:
    message: Any = client.chat.completions.create(messages=says("What is 47 + 38?"), **GREEDY).choices[0].message
    assert message.reasoning.endswith("Result 85")
    assert message.content == "47 + 38 = 85"
    unthinking = {"chat_template_kwargs": {"enable_thinking": False}}
    at_once: Any = client.chat.completions.create(messages=says("What is 2 + 3?"), extra_body=unthinking, **GREEDY)
    assert not at_once.choices[0].message.reasoning


def test_a_tool_is_chosen_and_called_in_a_stream_and_its_result_is_told(client: openai.OpenAI) -> None:
    messages = says("What is the weather in Lisbon?")
    with client.chat.completions.stream(messages=messages, tools=TOOLS, **GREEDY) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert called(message) == [("get_weather", {"city": "Lisbon"})]
    assert message.tool_calls is not None
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": json.dumps({"weather": "rain"})}
    asked = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
    told = client.chat.completions.create(messages=[*messages, asked, result], tools=TOOLS, **GREEDY)
    assert told.choices[0].message.content == "The weather is rain."


def test_the_other_tool_gets_arguments_of_its_own(client: openai.OpenAI) -> None:
    messages = says("Send a message where person is Ada and subject is lunch.")
    message = client.chat.completions.create(messages=messages, tools=TOOLS, **GREEDY).choices[0].message
    assert called(message) == [("send_message", {"person": "Ada", "subject": "lunch"})]


def test_several_tools_are_called_at_once(client: openai.OpenAI) -> None:
    messages = says("How is the weather in Porto? Then: how is the weather in Rome?")
    message = client.chat.completions.create(messages=messages, tools=TOOLS[:1], **GREEDY).choices[0].message
    assert called(message) == [("get_weather", {"city": city}) for city in ("Porto", "Rome")]


@pytest.mark.parametrize("form", ["json_schema", "json_object"])
def test_an_order_becomes_json(client: openai.OpenAI, form: Literal["json_schema", "json_object"]) -> None:
    schema = Order.model_json_schema()
    kinds: dict[str, Any] = {
        "json_object": {"type": "json_object"},
        "json_schema": {"type": "json_schema", "json_schema": {"name": "order", "schema": schema}},
    }
    asked = says("Read item, customer, quantity from this text as JSON: Clara ordered 12 lamps for 40 euros.")
    answer = client.chat.completions.create(messages=asked, response_format=kinds[form], **GREEDY)
    content = answer.choices[0].message.content
    assert content is not None
    assert Order.model_validate_json(content) == Order(item="lamps", customer="Clara", quantity=12)


def test_a_fact_is_found_again_and_what_stood_before_the_question_is_computed_once(client: openai.OpenAI) -> None:
    facts = [f"The {thing} is number {number}." for number, thing in enumerate(("lamp", "kettle", "violin"), 20)]
    opening = says("Remember: the key for the sled is rp4mkg-0gs. " + " ".join(facts), "Noted.")
    for question in ("What is the key for the sled?", "Now what is the key for the sled?"):
        answer = client.chat.completions.create(messages=[*opening, *says(question)], **GREEDY)
        assert "rp4mkg-0gs" in str(answer.choices[0].message.content)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens


def test_the_middle_of_a_function_is_filled_in(client: openai.OpenAI) -> None:
    head = 'def glance(text):\n    """Return text in upper case."""\n    return '
    answer = client.completions.create(prompt=head, suffix="\n", **GREEDY)
    assert answer.choices[0].text == "text.upper()"
