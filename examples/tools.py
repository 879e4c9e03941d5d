"""An answer of a type, and a tool that is called and answered: both hold their schema whatever the model is.

quire serve &
python examples/tools.py --base-url http://127.0.0.1:8000/v1
"""

import argparse
from typing import Literal

import openai
from pydantic import BaseModel, Field


class Leaf(BaseModel):
    """A leaf of a book."""

    side: Literal["recto", "verso"]
    number: int = Field(ge=1, le=999)
    caption: str = Field(max_length=24)


class CountLeaves(BaseModel):
    """Count the leaves of some quires."""

    quires: int = Field(ge=1, le=40)


def typed_answer(client: openai.OpenAI, model: str) -> None:
    """Ask for a leaf, and get one."""
    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Describe a leaf of a book."}],
        response_format=Leaf,
        max_completion_tokens=96,
    )
    assert answer.usage is not None
    print(f"{answer.choices[0].message.parsed!r} in {answer.usage.completion_tokens} tokens")


def tool_call(client: openai.OpenAI, model: str) -> None:
    """Let the model call a function, and tell it what that gave."""
    tools = [openai.pydantic_function_tool(CountLeaves)]
    messages = [{"role": "user", "content": "How many leaves have three quires of eight?"}]
    answer = client.chat.completions.parse(
        model=model,
        messages=messages,
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=96,
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls or ()
    asked = call.function.parsed_arguments
    print(f"the model calls {call.function.name} with {asked!r}")
    result = {"role": "tool", "tool_call_id": call.id, "content": str(8 * asked.quires)}
    messages += [message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}), result]
    told = client.chat.completions.create(
        model=model, messages=messages, tools=tools, tool_choice="none", max_completion_tokens=32
    )
    print(f"and says {told.choices[0].message.content!r}")


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1", help="where the server's API is")
    parser.add_argument("--api-key", default="none", help="key of the server, if it asks for one")
    arguments = parser.parse_args()
    with openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key) as client:
        model = client.models.list().data[0].id
        typed_answer(client, model)
        tool_call(client, model)


if __name__ == "__main__":
    main()
