"""One example of a task, as data: who says what, and what of it the model must say itself. Knows no tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Message: TypeAlias = dict[str, Any]

Check: TypeAlias = Literal["text", "number", "json", "calls", "mentions"]
"""How an answer is compared with the expected one: letter by letter, by its last number, as JSON, as tool calls, or by
whether it mentions all that it must."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation in OpenAI's form. Every assistant message is learned, or the last alone."""

    task: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    check: Check = "text"
    thinks: bool = True
    """Whether the model writes its thoughts itself, if only to say that there are none; else the prompt says that there
    are none, which is what `enable_thinking: false` does."""
    last_only: bool = False
    """Whether earlier answers are only there to be read."""
    schema: Mapping[str, Any] | None = None
    """What the answer satisfies, where it is JSON by a schema."""
    mentions: tuple[str, ...] = ()
    """What the answer must mention, where there are many good ones."""

    @property
    def answer(self) -> Message:
        """The last message, which the model is asked for."""
        return self.messages[-1]


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that goes on, up to its end or up to where a suffix begins."""

    task: str
    prompt: str
    answer: str
    suffix: str | None = None


Sample: TypeAlias = Dialogue | Completion


def user(text: str) -> Message:
    """Something said to the model."""
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    """What holds for the whole conversation."""
    return {"role": "system", "content": text}


def assistant(text: str, thought: str = "") -> Message:
    """Something that the model says, after a thought."""
    return {"role": "assistant", "content": text} | ({"reasoning_content": thought} if thought else {})


def calling(*calls: tuple[str, Mapping[str, Any]], first: int = 0) -> Message:
    """Calls of tools by (name, arguments); their ids are counted from `first`."""
    written = [
        {
            "id": f"call_{first + place}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for place, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": "", "tool_calls": written}


def result(value: Any, place: int = 0) -> Message:
    """What the call with this id gave."""
    return {"role": "tool", "tool_call_id": f"call_{place}", "content": json.dumps(value, ensure_ascii=False)}


def tool(name: str, description: str, properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """A function that can be called, as a request describes it."""
    parameters = {"type": "object", "properties": dict(properties), "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
