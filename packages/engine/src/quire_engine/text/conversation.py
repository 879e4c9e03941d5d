"""From a request's messages to what a chat template reads; knows content parts and tool calls, no template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quire_engine.errors import RequestError

_TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
"""Kinds of content part that are text, and the key that holds it."""

_REASONING = ("reasoning", "reasoning_content", "thinking")
"""Names under which templates look for an earlier answer's reasoning."""


def conversation(
    messages: Sequence[Mapping[str, Any]], *, wants_parts: bool, takes_strings: bool
) -> list[dict[str, Any]]:
    """The messages as plain data, contents in the form the template reads. RequestError names what it cannot read.

    A template that `wants_parts` gets lists of `{"type": "text"}` parts, and strings only if it `takes_strings`;
    any other gets strings, parts joined by line ends.
    """
    if not messages:
        raise RequestError("messages is empty: a conversation needs at least one message.", param="messages")
    return [
        _message(message, f"messages.{place}", wants_parts, takes_strings) for place, message in enumerate(messages)
    ]


def _message(message: Mapping[str, Any], place: str, wants_parts: bool, takes_strings: bool) -> dict[str, Any]:
    read = {key: value for key, value in message.items() if value is not None}
    content = read.get("content", "")
    if isinstance(content, str):
        read["content"] = content if takes_strings else _parts([content] if content else [])
    else:
        texts = _texts(content, place)
        read["content"] = _parts(texts) if wants_parts else "\n".join(texts)
    reasoning = next((read[name] for name in _REASONING if name in read), None)
    if reasoning is not None:
        read = dict.fromkeys(_REASONING, reasoning) | read
    calls = read.pop("tool_calls", ())
    if calls:  # an empty list would make some templates announce calls that do not follow
        read["tool_calls"] = [_call(call, f"{place}.tool_calls.{number}") for number, call in enumerate(calls)]
    return read


def content_text(message: Mapping[str, Any]) -> str:
    """The text of a message, in one piece. RequestError if it holds anything else."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(_texts(content, "messages"))


def _texts(content: Sequence[str | Mapping[str, Any]], place: str) -> list[str]:
    return [_text(part, f"{place}.content.{number}") for number, part in enumerate(content)]


def _text(part: str | Mapping[str, Any], place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type")
    if kind is None and isinstance(part.get("text"), str):
        kind = "text"
    if kind not in _TEXT_PARTS:
        named = f'a part of type "{kind}"' if kind else f"a part with {', '.join(part) or 'nothing in it'}"
        raise RequestError(f"This model takes text only; {place} is {named}.", param=place)
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise RequestError(f'{place} of type "{kind}" needs its text under "{_TEXT_PARTS[kind]}".', param=place)
    return text


def _parts(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def _call(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    """An earlier tool call; templates want its arguments as an object, the API has them as JSON text."""
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    place += ".function.arguments"
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise RequestError(f"{place} should be a JSON object, but is no JSON: {error}.", param=place) from error
    if not isinstance(arguments, Mapping):
        raise RequestError(f"{place} should be a JSON object, not a {type(arguments).__name__}.", param=place)
    return {**call, "function": {**function, "arguments": arguments}}
