"""The messages of a harmony answer, as gpt-oss models write it: what their headers say, and where they end.

    <|channel|>analysis<|message|>I have to look.<|end|><|start|>assistant
    <|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Kyoto"}<|call|>

without the line break. A header names a channel and, for a call, a recipient, in either order; `<|start|>assistant`
stands before every message but the first, for which the prompt has written it. `<|call|>` and `<|return|>` end the
answer.

After openai-harmony's description of the format and the models' chat template; the seed system reads it in
`parser/harmony.py`. What is made of calls is for `reasoning.harmony` and `tools.harmony` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from quire_engine.text.formats.events import Content, Event, Reasoning
from quire_engine.text.formats.scanner import Pieces, Reading, Source, Waiting, content_to_the_end, told, until

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
END, CALL, RETURN = "<|end|>", "<|call|>", "<|return|>"
MARKS = (START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN)
ENDS = (END, CALL, RETURN, START)
"""What ends a message; the last also begins the next one, where its end was forgotten."""
ANALYSIS = f"{CHANNEL}analysis{MESSAGE}"
ASSISTANT = f"{START}assistant"
CALLS = " to=functions."
"""What stands in a header before the name of the function that it calls."""

_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=(functions\.)?([^\s<]+)")
_OF_HEADERS = re.compile(r"to=|<\|")
"""What may follow the name of a channel in a header, other than a message that was to begin there."""
_NO_FUNCTIONS = frozenset({"assistant", "python", "browser", "container"})
"""Recipients, also those that go on with a dot, which are tools of a vendor's own and no functions of a request.

A request's own functions may have these names: behind `functions.`, they are that.
"""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a message's text."""

    text: str
    is_complete: bool = True
    """Whether the mark that ends it was there."""

    @property
    def channel(self) -> str:
        """The name of the channel; empty where there is none."""
        found = _CHANNEL.search(self.text)
        return found[1] if found else ""

    @property
    def message(self) -> str:
        """The message's text, where the mark that ends its header was forgotten: what follows the channel's name."""
        found = _CHANNEL.search(self.text)
        rest = self.text[found.end() :].lstrip() if found else ""
        return "" if _OF_HEADERS.match(rest) else rest

    @property
    def function(self) -> str | None:
        """The function that the message calls, whether or not its name has the prefix that it should have."""
        found = _RECIPIENT.search(self.text)
        is_own = found is not None and (found[1] or found[2].partition(".")[0] not in _NO_FUNCTIONS)
        return found[2] if found and is_own else None


def read_messages(
    source: Source,
    read_call: Callable[[Header], Reading[str | None]] | None,
    *,
    is_open: bool = False,
    is_verbatim: bool = False,
) -> Reading[None]:
    """All messages of an answer; `read_call` reads those that call, and returns what ended them.

    Without it, they are messages like others. If what follows the reasoning `is_verbatim`, the first message that is
    neither a call nor reasoning is all of the rest, whatever marks it has.
    The channel `analysis` is reasoning. What stands outside of messages is content. Messages of a kind are lines.
    """
    seen: set[object] = set()
    header = Header(ANALYSIS) if is_open else (yield from _first_header(source))
    while header is not None:
        if read_call is not None and header.function is not None:
            ended = yield from read_call(header)
        else:
            made: Callable[[str], Event] = Reasoning if header.channel == "analysis" else Content
            if is_verbatim and made is Content and header.is_complete:
                yield from content_to_the_end(source)
                return
            text = until(source, *ENDS) if header.is_complete else _only(header.message)
            ended = yield from told(_on_a_new_line(text) if made in seen else text, made)
            seen.add(made)
        header = yield from _next_header(source, START if ended == START else None)


def _first_header(source: Source) -> Reading[Header | None]:
    """The header that an answer begins with, which may begin with the name of a function."""
    return (yield from _next_header(source, CALLS if (yield from source.takes(CALLS)) else None))


def _next_header(source: Source, begun: str | None) -> Reading[Header | None]:
    """The next header, of which this has been read; None where no other begins."""
    begun = begun or (yield from told(until(source, START, CHANNEL), Content))
    return None if begun is None else (yield from _header(source, begun))


def _header(source: Source, text: str) -> Waiting[Header]:
    """The header, of which this text has been read."""
    pieces = until(source, MESSAGE)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return Header(text, is_complete=end.value is not None)
        if piece is None:
            yield
        else:
            text += piece


def _only(text: str) -> Pieces[str | None]:
    """This text, behind which the answer ends."""
    yield text
    return None


def _on_a_new_line(pieces: Pieces[str | None]) -> Pieces[str | None]:
    """The same text, if there is any, after a newline."""
    newline = "\n"
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            result: str | None = end.value
            return result
        if piece:
            piece, newline = newline + piece, ""
        yield piece
