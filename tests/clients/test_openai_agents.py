"""openai-agents: a loop of the model and a tool, at once and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from tests.clients.subjects import SCRIPT, Animal
from tests.support.processes import Server

agents = pytest.importorskip("agents")
pytestmark = pytest.mark.filterwarnings("default")
PATIENCE = 60.0


@agents.function_tool
def get_weather(city: str) -> str:
    """The temperature of a city, in degrees."""
    return f"12 in {city}"


def asked(server: Server, question: str, *, stream: bool = False, **agent: Any) -> Any:
    """The result of a run that was waited for."""

    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=server.api, api_key="none", timeout=PATIENCE) as client:
            model = agents.OpenAIChatCompletionsModel(model="actor", openai_client=client)
            settings = agents.ModelSettings(temperature=0, max_tokens=200)
            one = agents.Agent(name="one", model=model, model_settings=settings, **agent)
            if not stream:
                return await agents.Runner.run(one, question)
            streamed = agents.Runner.run_streamed(one, question)
            async for _ in streamed.stream_events():
                pass
            return streamed

    agents.set_tracing_disabled(True)
    return asyncio.run(asyncio.wait_for(run(), PATIENCE))


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(server: Server, stream: bool) -> None:
    result = asked(server, SCRIPT, stream=stream, tools=[get_weather])
    assert result.final_output == "It is 12 degrees."
    assert [item.output for item in result.new_items if item.type == "tool_call_output_item"] == ["12 in Kyoto"]


def test_the_last_answer_is_of_its_type(server: Server) -> None:
    assert isinstance(asked(server, "An animal?", output_type=Animal).final_output, Animal)
