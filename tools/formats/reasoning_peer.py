"""The other side of tools.formats.reasoning, run by an interpreter that has vllm: what its parsers tell apart.

usage: python reasoning_peer.py < answers.json

Each answer comes with a folder that has a tokenizer, and a parser's name. The last line written is a list with, for
each answer, the reasoning and the content that are found at once and in a stream of its tokens; or the error that was
raised.
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
from vllm.reasoning import ReasoningParserManager

REQUEST = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}])


def main() -> None:
    print(json.dumps([read(**answer) for answer in json.load(sys.stdin)]))


load = cache(AutoTokenizer.from_pretrained)


def read(tokenizer: str, parser: str, text: str) -> dict[str, Any]:
    """What one parser finds, at once and in a stream."""
    tokens = load(tokenizer)
    found: dict[str, Any] = {}
    for name, way in (("whole", whole), ("streamed", streamed)):
        try:
            found[name] = way(ReasoningParserManager.get_reasoning_parser(parser)(tokens), tokens, text)
        except Exception as error:  # whatever a parser raises is what it makes of the answer
            found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


def whole(parser: Any, tokenizer: Any, text: str) -> list[str]:
    """What is found in the whole text."""
    reasoning, content = parser.extract_reasoning(text, REQUEST)
    return [reasoning or "", content or ""]


def streamed(parser: Any, tokenizer: Any, text: str) -> list[str]:
    """What is found token by token."""
    found, before, done = ["", ""], "", 0
    ids = tokenizer.encode(text, add_special_tokens=False)
    for place in range(1, len(ids) + 1):
        now = tokenizer.decode(ids[:place], skip_special_tokens=False)
        if now.endswith("\ufffd") and place < len(ids):
            continue  # in the middle of a character
        delta = parser.extract_reasoning_streaming(
            before, now, now[len(before) :], ids[:done], ids[:place], ids[done:place]
        )
        before, done = now, place
        if delta is not None:
            found[0] += delta.reasoning or ""
            found[1] += delta.content or ""
    return found


if __name__ == "__main__":
    main()
