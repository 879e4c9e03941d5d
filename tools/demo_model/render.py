"""From a sample to text, as pieces that are read or spoken; through the chat template that ships. Knows no token ids.

A piece ends where the model takes over or hands back, so that each is encoded by itself, as a server encodes a prompt
and a model writes an answer.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from tools.demo_model.corpus.sample import Completion, Dialogue, Message, Sample

from quire_engine.text.conversation import conversation
from quire_engine.text.sandbox import ChatTemplate

TEMPLATE = Path(__file__).with_name("template.jinja")

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"


class Piece(NamedTuple):
    """A stretch of text, and whether the model is to learn to say it."""

    text: str
    is_spoken: bool


def pieces(sample: Sample) -> list[Piece]:
    """The whole sample, in order."""
    return _completion(sample) if isinstance(sample, Completion) else _dialogue(sample)


def prompt(dialogue: Dialogue) -> str:
    """What stands before the last answer."""
    return _rendered(dialogue, dialogue.messages[:-1], opens_answer=True)


def _completion(sample: Completion) -> list[Piece]:
    spoken = Piece(sample.answer + END_OF_TEXT, True)
    if sample.suffix is None:
        return [Piece(sample.prompt, False), spoken]
    asked = (PREFIX, sample.prompt, SUFFIX, sample.suffix, MIDDLE)
    return [*(Piece(text, False) for text in asked if text), spoken]


def _dialogue(sample: Dialogue) -> list[Piece]:
    found: list[Piece] = []
    done = ""
    for place, message in enumerate(sample.messages):
        if message["role"] != "assistant":
            continue
        before = _rendered(sample, sample.messages[:place], opens_answer=True)
        through = _rendered(sample, sample.messages[: place + 1], opens_answer=False)
        is_last = place == len(sample.messages) - 1
        assert before.startswith(done), "the template leaves the past as it was"
        assert through.startswith(before), "the template writes answers as they are spoken"
        found.append(Piece(before.removeprefix(done), False))
        found.append(Piece(through.removeprefix(before).removesuffix("\n"), is_last or not sample.last_only))
        done = through.removesuffix("\n")
    return found


def _rendered(sample: Dialogue, messages: tuple[Message, ...], *, opens_answer: bool) -> str:
    return _template().render(
        conversation(messages, wants_parts=False, takes_strings=True),
        tools=sample.tools or None,
        documents=None,
        add_generation_prompt=opens_answer,
        continue_final_message=False,
        variables={} if sample.thinks else {"enable_thinking": False},
    )


@cache
def _template() -> ChatTemplate:
    return ChatTemplate.of(TEMPLATE.read_text(encoding="utf-8"))
