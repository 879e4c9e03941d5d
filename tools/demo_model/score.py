"""Whether an answer is right. Knows no server; an answer is a message in OpenAI's form."""

from __future__ import annotations

import json
import re
from typing import Any

from tools.demo_model.corpus.sample import Dialogue, Message

_NUMBER = re.compile(r"-?\d+")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


def is_right(sample: Dialogue, answer: Message) -> bool:
    """Whether this is the expected answer, in the sense of the sample's check."""
    said, expected = spoken(answer), str(sample.answer["content"])
    match sample.check:
        case "text":
            return said == expected and not answer.get("tool_calls")
        case "number":
            return _last_number(said) == _last_number(expected)
        case "json":
            return _parsed(said) == _parsed(expected)
        case "calls":
            return _calls(answer) == _calls(sample.answer)
        case "mentions":
            return all(word in said for word in sample.mentions) and said.endswith(".")


def spoken(answer: Message) -> str:
    """What is said aloud: without thoughts, should the server not have told them apart."""
    return _THOUGHT.sub("", answer.get("content") or "").strip()


def _last_number(text: str) -> str | None:
    return next(reversed(_NUMBER.findall(text)), None)


class _Unreadable:
    """What is no JSON: equal to nothing, itself included."""

    def __eq__(self, _: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _Unreadable()


def _calls(answer: Message) -> list[tuple[str, Any]]:
    """Names and arguments, in order."""
    functions = [call["function"] for call in answer.get("tool_calls") or ()]
    return [(one["name"], _parsed(one["arguments"])) for one in functions]
