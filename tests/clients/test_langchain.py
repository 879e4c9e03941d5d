"""langchain-openai: a loop of the model and a tool, streamed deltas that add up, and typed answers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.clients.subjects import SCRIPT, Animal
from tests.support.processes import Server

langchain_openai = pytest.importorskip("langchain_openai")
tools = pytest.importorskip("langchain_core.tools")
messages = pytest.importorskip("langchain_core.messages")
pytestmark = pytest.mark.filterwarnings("default")


@tools.tool
def get_weather(city: str) -> str:
    """The temperature of a city, in degrees."""
    return f"12 in {city}"


def model(server: Server, **more: Any) -> Any:
    options = {
        "model": "actor",
        "api_key": "none",
        "timeout": 60,
        "max_retries": 0,
        "temperature": 0,
        "max_tokens": 200,
    }
    return langchain_openai.ChatOpenAI(base_url=server.api, **options, **more)


def test_a_tool_is_called_and_its_result_answered(server: Server) -> None:
    asking = model(server).bind_tools([get_weather])
    said: list[Any] = [messages.HumanMessage(SCRIPT)]
    said.append(asking.invoke(said))
    (call,) = said[-1].tool_calls
    said.append(get_weather.invoke(call))
    assert said[-1].content == "12 in Kyoto"
    assert asking.invoke(said).content == "It is 12 degrees."


def test_streamed_pieces_add_up_to_the_call(server: Server) -> None:
    first, *rest = model(server).bind_tools([get_weather]).stream(SCRIPT)
    for piece in rest:
        first += piece
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Kyoto"})
    assert first.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_is_of_its_type(server: Server, method: str) -> None:
    typed = model(server).with_structured_output(Animal, method=method)
    assert isinstance(typed.invoke("An animal?"), Animal)
