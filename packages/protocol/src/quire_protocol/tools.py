"""Tools: how a request offers and chooses them, and how an answer calls them."""

from typing import Any, Literal

from pydantic import Field

from quire_protocol.base import OpenAIBaseModel, random_uuid


def make_tool_call_id() -> str:
    """A new id for a tool call."""
    return f"chatcmpl-tool-{random_uuid()}"


class FunctionDefinition(OpenAIBaseModel):
    """A function that the model may call."""

    name: str
    """How the model calls it."""
    description: str | None = None
    """What it does and when to call it, for the model to read."""
    parameters: dict[str, Any] | None = None
    """A JSON Schema of its arguments; without one it takes none."""
    strict: bool | None = None
    """Hold every call's arguments to that schema while they are generated, whatever the server's setting."""


class ChatCompletionToolsParam(OpenAIBaseModel):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    """The kind of tool; functions are the only one."""
    function: FunctionDefinition
    """The function."""


class ChatCompletionNamedFunction(OpenAIBaseModel):
    """The function to call."""

    name: str
    """Its name among the `tools`."""


class ChatCompletionNamedToolChoiceParam(OpenAIBaseModel):
    """A `tool_choice` that makes the model call one particular function."""

    function: ChatCompletionNamedFunction
    """The function to call."""
    type: Literal["function"] = "function"
    """The kind of tool; functions are the only one."""


class FunctionCall(OpenAIBaseModel):
    """A call as the model wrote it."""

    name: str
    """The function's name."""
    arguments: str
    """Its arguments as JSON text; a model can get them wrong, so check before use."""


class ToolCall(OpenAIBaseModel):
    """One call in a message."""

    id: str = Field(default_factory=make_tool_call_id)
    """Names the call, for the tool message that answers it."""
    type: Literal["function"] = "function"
    """The kind of tool; functions are the only one."""
    function: FunctionCall
    """What to call, and with what."""


class DeltaFunctionCall(OpenAIBaseModel):
    """What is new of a call in a stream."""

    name: str | None = None
    """The function's name, once, in the call's first delta."""
    arguments: str | None = None
    """The next piece of its arguments' JSON text."""


class DeltaToolCall(OpenAIBaseModel):
    """What is new of one call in a stream."""

    id: str | None = None
    """The call's id, once, in its first delta."""
    type: Literal["function"] | None = None
    """The kind of tool, once, in the call's first delta."""
    index: int
    """Which call of the message this is, from 0."""
    function: DeltaFunctionCall | None = None
    """What is new of the call."""


class ExtractedToolCallInformation(OpenAIBaseModel):
    """What a tool-call parser found in the text of a whole answer."""

    tools_called: bool
    """Whether it has calls at all."""
    tool_calls: list[ToolCall]
    """The calls, in order."""
    content: str | None = None
    """The text beside them, if any."""
