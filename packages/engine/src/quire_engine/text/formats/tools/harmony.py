"""Calls as messages to a function: gpt-oss. How messages are read is in `formats.harmony`.

    <|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Kyoto"}<|call|>

It reads whole answers, and what `reasoning.harmony` leaves of them. A call ends the answer, so there is one at a time;
text that the user may read can stand before it in a message of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from quire_engine.text.formats.base import Notation, Parser, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallEnded
from quire_engine.text.formats.harmony import (
    ASSISTANT,
    CALLS,
    CHANNEL,
    CONSTRAIN,
    END,
    ENDS,
    MARKS,
    MESSAGE,
    Header,
    read_messages,
)
from quire_engine.text.formats.scanner import Malformed, Reader, Reading, Source, Waiting, told
from quire_engine.text.formats.tools.json_call import arguments, choice, object_schema

COMMENTARY = f"{CHANNEL}commentary"


@dataclass(frozen=True, slots=True)
class HarmonyCalls:
    """The `ToolFormat` of harmony."""

    name: str = "harmony"
    aliases: tuple[str, ...] = ("openai", "gpt_oss", "openai_gptoss")
    marks: tuple[str, ...] = MARKS

    def wrote(self, template: str) -> bool:
        """Whether the template writes messages with channels."""
        return CHANNEL in template and MESSAGE in template

    def parser(self, tools: Sequence[Tool]) -> Parser:
        """A parser for one answer."""
        return Reader(_read)

    def opening(self) -> None:
        """A call is a message of its own, never a part of another one's text."""

    def calls(self, tools: Sequence[Tool], notation: Notation, *, several: bool) -> str:
        """A message for the user, or none, and a call: one, also with `several`. The recipient may come first."""
        preamble = f"{notation.text(COMMENTARY + MESSAGE)} {notation.until(END)} {notation.text(ASSISTANT)}"
        kind = choice([notation.text(f" {CONSTRAIN}json{MESSAGE}"), notation.text(f" json{MESSAGE}")])
        one = [f"{_recipient(tool, notation)} {kind} {notation.json(object_schema(tool))}" for tool in tools]
        return f"({preamble})? {choice(one)}"


def _recipient(tool: Tool, notation: Notation) -> str:
    """The part of the header that names the function, as models write it and as their chat template does."""
    to = CALLS + tool.name
    return choice([notation.text(COMMENTARY + to), notation.text(to + COMMENTARY)])


def _read(source: Source) -> Reading[None]:
    indices = count()
    return read_messages(source, lambda header: _read_call(source, header, next(indices)))


def _read_call(source: Source, header: Header, index: int) -> Reading[str | None]:
    """The rest of a message that calls. Arguments that were left out are none."""
    if not header.is_complete or header.function is None:
        raise Malformed("The answer ends in the middle of what a call is headed with.")
    yield CallBegan(index, header.function)
    yield from source.skip_space()
    ended = yield from _end(source)
    if ended is not None:
        yield CallArguments(index, "{}")
    else:
        yield from told(arguments(source), partial(CallArguments, index))
        yield from source.skip_space()
        ended = yield from _end(source)
        if ended is None and (yield from source.peek()):
            raise source.malformed("the end of a call")
    yield CallEnded(index)
    return ended


def _end(source: Source) -> Waiting[str | None]:
    """What ends a message, if that stands here."""
    for mark in ENDS:
        if (yield from source.takes(mark)):
            return mark
    return None


HARMONY = HarmonyCalls()
"""The one instance of it."""
