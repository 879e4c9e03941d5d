"""litellm: completions through its `openai/` provider, streamed calls put together by it, typed answers, and errors."""

from __future__ import annotations

from typing import Any

import pytest
from tests.clients.subjects import ARGUMENTS, SCRIPT, Animal
from tests.support.processes import Server

litellm = pytest.importorskip("litellm")
pytestmark = pytest.mark.filterwarnings("default")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The temperature of a city, in degrees.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
QUESTION = [{"role": "user", "content": SCRIPT}]


def ask(server: Server, messages: list[Any], **more: Any) -> Any:
    options = {"temperature": 0, "max_tokens": 200, "timeout": 60, "num_retries": 0}
    return litellm.completion(
        model="openai/actor", api_base=server.api, api_key="none", messages=messages, **options | more
    )


def test_a_tool_is_called_and_its_result_answered(server: Server) -> None:
    answer = ask(server, QUESTION, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", ARGUMENTS)
    said = [
        *QUESTION,
        answer.choices[0].message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "12"},
    ]
    after = ask(server, said, tools=[WEATHER])
    assert after.choices[0].message.content == "It is 12 degrees."
    assert after.usage.total_tokens == after.usage.prompt_tokens + after.usage.completion_tokens


def test_streamed_chunks_add_up_to_what_comes_at_once(server: Server) -> None:
    chunks = [*ask(server, QUESTION, tools=[WEATHER], stream=True, stream_options={"include_usage": True})]
    whole, wanted = litellm.stream_chunk_builder(chunks), ask(server, QUESTION, tools=[WEATHER])
    (call,), (same,) = whole.choices[0].message.tool_calls, wanted.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == (same.function.name, same.function.arguments)
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.usage.completion_tokens == wanted.usage.completion_tokens


def test_an_answer_is_of_its_type(server: Server) -> None:
    answer = ask(server, [{"role": "user", "content": "An animal?"}], response_format=Animal)
    assert isinstance(Animal.model_validate_json(answer.choices[0].message.content), Animal)


def test_what_only_this_server_has_passes_through(server: Server) -> None:
    answer = ask(
        server, [{"role": "user", "content": "Go on."}], extra_body={"min_tokens": 7, "ignore_eos": True}, max_tokens=7
    )
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].finish_reason == "length"


def test_errors_are_those_of_their_status(server: Server) -> None:
    with pytest.raises(litellm.BadRequestError, match="max_tokens"):
        ask(server, QUESTION, max_tokens=-1)
    with pytest.raises(litellm.NotFoundError, match="nobody"):
        litellm.completion(model="openai/nobody", api_base=server.api, api_key="none", messages=QUESTION, num_retries=0)
