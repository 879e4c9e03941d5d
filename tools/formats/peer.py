"""The other side of tools.formats, run by an interpreter that has vllm: its parsers' calls of each answer.

usage: python peer.py < answers.json

Each answer comes with a folder that has a tokenizer, a parser's name and tools. The last line written is a list with,
for each answer, what is found in it at once and in a stream of its tokens: calls as names and arguments, and content;
or the error that was raised.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import Any

os.environ["VLLM_LOGGING_LEVEL"] = "CRITICAL"

from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers import ToolParserManager


def main() -> None:
    print(json.dumps([read(**answer) for answer in json.load(sys.stdin)]))


load = cache(AutoTokenizer.from_pretrained)


def read(tokenizer: str, parser: str, text: str, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """What one parser finds, at once and in a stream."""
    tokens = load(tokenizer)
    functions = [{"type": "function", "function": tool} for tool in tools]
    request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}], tools=functions)
    kind = ToolParserManager.get_tool_parser(parser)
    found = {}
    for name, way in (("whole", whole), ("streamed", streamed)):
        try:
            found[name] = way(kind(tokens, request.tools), tokens, text, request)
        except Exception as error:  # whatever a parser raises is what it makes of the answer
            found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


def whole(parser: Any, tokenizer: Any, text: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """What is found in the whole text."""
    found = parser.extract_tool_calls(text, request)
    calls = [[call.function.name, call.function.arguments] for call in found.tool_calls or []]
    return {"calls": calls, "content": found.content}


def streamed(parser: Any, tokenizer: Any, text: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """What is found token by token."""
    calls: list[list[str]] = []
    content, before = "", ""
    ids = tokenizer.encode(text, add_special_tokens=False)
    for place, _ in enumerate(ids):
        now = tokenizer.decode(ids[: place + 1], skip_special_tokens=False)
        if now.endswith("\ufffd") and place + 1 < len(ids):
            continue
        delta = parser.extract_tool_calls_streaming(
            before, now, now[len(before) :], ids[:place], ids[: place + 1], ids[place : place + 1], request
        )
        before = now
        if delta is None:
            continue
        content += delta.content or ""
        for call in delta.tool_calls or []:
            while len(calls) <= call.index:
                calls.append(["", ""])
            function = call.function
            calls[call.index][0] += (function and function.name) or ""
            calls[call.index][1] += (function and function.arguments) or ""
    return {"calls": calls, "content": content}


if __name__ == "__main__":
    main()
