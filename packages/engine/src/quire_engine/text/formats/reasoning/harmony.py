"""Reasoning in a channel of its own, between messages: gpt-oss. How messages are read is in `formats.harmony`.

Messages that call are passed on as they were written, as Content: for `tools.harmony` to read, where it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from quire_engine.text.formats.base import Notation, Parser
from quire_engine.text.formats.events import Content
from quire_engine.text.formats.harmony import (
    ANALYSIS,
    ASSISTANT,
    CHANNEL,
    END,
    ENDS,
    MARKS,
    MESSAGE,
    START,
    Header,
    read_messages,
)
from quire_engine.text.formats.scanner import Reader, Reading, Source, told, until


@dataclass(frozen=True, slots=True)
class HarmonyReasoning:
    """The `ReasoningFormat` of harmony. It marks the answer itself too, so that has a heading."""

    name: str = "harmony"
    aliases: tuple[str, ...] = ("openai_gptoss", "gpt_oss", "openai")
    marks: tuple[str, ...] = MARKS
    begin: str = ANALYSIS
    label: str = ""
    end: str = END
    heading: str = f"{CHANNEL}final{MESSAGE}"

    def wrote(self, template: str) -> bool:
        """Whether the template writes messages with channels."""
        return CHANNEL in template and MESSAGE in template

    def is_open(self, prompt: str, continued: str = "") -> bool:
        """Whether the prompt ends in the middle of reasoning, whoever began it."""
        _, found, after = prompt.rpartition(ANALYSIS)
        return bool(found) and not any(mark in after for mark in MARKS)

    def parser(self, *, is_open: bool, reads_calls: bool = True, is_verbatim: bool = False) -> Parser:
        """A parser for one answer. Where nobody reads its calls, they are messages like others."""

        def read(source: Source) -> Reading[None]:
            passed_on = partial(_passed_on, source) if reads_calls else None
            return read_messages(source, passed_on, is_open=is_open, is_verbatim=is_verbatim)

        return Reader(read)

    def span(self, notation: Notation, *, is_open: bool, is_verbatim: bool = False) -> str:
        """Messages of reasoning, and what stands before the next message."""
        rest = notation.rule(f"{notation.until(END)} {notation.text(ASSISTANT)}")
        more = f"({notation.text(ANALYSIS)} {rest})*"
        return f"{rest} {more}" if is_open else more


def _passed_on(source: Source, header: Header) -> Reading[str | None]:
    """A message that calls, with its marks. It begins and ends as messages should, whether or not it did."""
    yield Content(ASSISTANT + header.text.removeprefix(ASSISTANT) + MESSAGE * header.is_complete)
    ended = yield from told(until(source, *ENDS), Content)
    if ended:
        yield Content(END if ended == START else ended)
    return ended


HARMONY = HarmonyReasoning()
"""`<|channel|>analysis<|message|>reasoning<|end|><|start|>assistant<|channel|>final<|message|>answer`."""
