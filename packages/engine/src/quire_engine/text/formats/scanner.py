"""Reading text that comes in pieces: marks, and JSON as it is written. It knows no format.

A format's parser is one pass over the text, written as a generator that takes what it reads from a `Source`:

    def read(source):
        while (yield from content(source, "<call>")):    # gives events, and waits where the text has not come yet
            name = yield from json_string(source)
            yield CallBegan(0, name)

It gives None where it waits for more text, so that it reads on from there when there is more: where the text was cut
cannot change what it reads. `Reader` makes a `Parser` of it. A reading raises `Malformed` where something else stands
than has to; that ends the answer's calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar

from quire_engine.text.formats.events import CallBegan, CallBroken, CallEnded, Content, Event, joined

MAX_DEPTH = 100
"""How deep JSON may be nested."""
MAX_NUMBER = 400
"""How many characters a number in JSON may have."""

WHITE_SPACE = " \t\n\r"

T = TypeVar("T")
Made = TypeVar("Made")
Waiting: TypeAlias = Generator[None, None, T]
"""Gives nothing; waits for text, then returns something."""
Pieces: TypeAlias = Generator["str | None", None, T]
"""Gives text, piece by piece."""
Reading: TypeAlias = Generator["Event | None", None, T]
"""Gives events."""

_SPACE = re.compile(f"[{WHITE_SPACE}]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_NUMBER_PART = re.compile(r"[-+.0-9eE]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = {chr(code): json.dumps(chr(code))[1:-1] for code in range(0x20)}


class Malformed(Exception):
    """What stands in the text is not what has to stand there. Its text is a sentence that says so."""


class Source:
    """The text of one answer that has come and has not been read. Fed by its reader, taken from by its reading."""

    def __init__(self) -> None:
        self.ended = False
        """Whether nothing follows on what is there."""
        self._text = ""
        self._at = 0
        self._held: int | None = None
        self._noted: int | None = None
        self._before = ""

    def add(self, text: str) -> None:
        """More text has come."""
        read = min(place for place in (self._at, self._held, self._noted) if place is not None)
        self._text = self._text[read:] + text
        self._at -= read
        self._held = None if self._held is None else self._held - read
        self._noted = None if self._noted is None else self._noted - read

    def hold(self) -> None:
        """Keep what is taken from here on, for `back`, until `let_go`."""
        self._held = self._at

    def let_go(self) -> None:
        """What has been taken stays taken."""
        self._held = None

    def back(self) -> None:
        """Put back what has been taken since `hold`."""
        assert self._held is not None
        self._at, self._held = self._held, None

    def note(self, before: str) -> None:
        """Remember this text, which was taken as the beginning of a call, and all that is taken from here on."""
        self._noted, self._before = self._at, before

    def forget(self) -> None:
        """What was remembered is no text of the answer."""
        self._noted = None

    def noted(self) -> str | None:
        """What is remembered, if anything is."""
        return None if self._noted is None else self._before + self._text[self._noted : self._at]

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True

    @property
    def size(self) -> int:
        """How many characters are there."""
        return len(self._text) - self._at

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The pattern where the text stands now."""
        return pattern.match(self._text, self._at)

    def search(self, pattern: re.Pattern[str]) -> tuple[int, str] | None:
        """How far away the pattern is, and what it found."""
        found = pattern.search(self._text, self._at)
        return (found.start() - self._at, found[0]) if found else None

    def ahead(self, count: int) -> str:
        """The next characters, without taking them: fewer where no more are there."""
        return self._text[self._at : self._at + count]

    def take(self, count: int) -> str:
        """The next characters."""
        taken = self.ahead(count)
        self._at += len(taken)
        return taken

    def peek(self) -> Waiting[str]:
        """The next character, waited for and not taken; nothing where the answer ends."""
        while self._at == len(self._text) and not self.ended:
            yield
        return self.ahead(1)

    def skip_space(self) -> Waiting[None]:
        """Take white space, up to what is none."""
        yield from self.run(_SPACE)

    def run(self, letters: re.Pattern[str]) -> Waiting[str]:
        """Take all that follows of these characters, up to one that is none of them."""
        run = ""
        while (yield from self.peek()):
            found = letters.match(self._text, self._at)
            if not found or not found[0]:
                break
            run += self.take(len(found[0]))
        return run

    def takes(self, literal: str) -> Waiting[bool]:
        """Take this text if it stands here; whether it does."""
        while not self.ended and self.size < len(literal) and literal.startswith(self.ahead(len(literal))):
            yield
        if self.ahead(len(literal)) != literal:
            return False
        self._at += len(literal)
        return True

    def expect(self, literal: str) -> Waiting[None]:
        """Take this text, which has to stand here. Malformed if it does not."""
        if not (yield from self.takes(literal)):
            raise self.malformed(repr(literal), ends=literal.startswith(self.ahead(len(literal))))

    def expect_end(self, *marks: str) -> Waiting[None]:
        """Take one of these marks, or its beginning where the answer ends. Malformed if something else stands here.

        It is for what closes something that is whole without it.
        """
        for mark in marks:
            if (yield from self.takes(mark)):
                return
        if not any(mark.startswith(self.ahead(len(mark))) for mark in marks):
            raise self.malformed(repr(marks[-1]))
        self.take(self.size)

    def malformed(self, wanted: str, *, ends: bool = False) -> Malformed:
        """That something else has to stand here than does, or that the answer `ends` in the middle of it."""
        if ends or not self.size:
            return Malformed(f"The answer ends where {wanted} has to stand.")
        return Malformed(f"{self.ahead(1)!r} stands where {wanted} has to stand.")


class Reader:
    """A parser that runs one reading. Owns the reading and its source.

    What began like a call and, as other things follow, turns out to be none before it has a name, is content too, with
    all that follows.
    """

    def __init__(self, read: Callable[[Source], Reading[None]]) -> None:
        self._source = Source()
        self._reading = read(self._source)
        self._calls = 0
        self._is_over = False
        self._is_text = False
        """Whether all the rest is content."""

    def push(self, text: str) -> Sequence[Event]:
        """What is certain now."""
        if self._is_text:
            return [Content(text)] if text else []
        self._source.add(text)
        return self._read_on()

    def finish(self) -> Sequence[Event]:
        """What is left."""
        self._source.end()
        return self._read_on()

    def _read_on(self) -> Sequence[Event]:
        return [] if self._is_over else joined(self._events())

    def _events(self) -> Iterator[Event]:
        try:
            for event in self._reading:
                if event is None:
                    return
                self._calls += isinstance(event, CallEnded)
                if isinstance(event, CallBegan):
                    self._source.forget()
                yield event
        except Malformed as problem:
            yield CallBroken(self._calls, str(problem))
            noted = self._source.noted()
            if noted is not None and not self._source.ended:
                self._is_text = True
                yield Content(noted + self._source.take(self._source.size))
        self._is_over = True


def told(pieces: Pieces[T], make: Callable[[str], Made]) -> Generator[Made | None, None, T]:
    """What is made of each piece of text: events, or other text."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result
        yield None if piece is None else make(piece)


def gathered(pieces: Pieces[T]) -> Waiting[tuple[str, T]]:
    """Pieces of text, when all are there, as one; and what the reading of them returns."""
    text: list[str] = []
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return "".join(text), end.value
        if piece is None:
            yield
        else:
            text.append(piece)


def collected(pieces: Pieces[object]) -> Waiting[str]:
    """Pieces of text, when all are there, as one."""
    text, _ = yield from gathered(pieces)
    return text


def until(source: Source, *marks: str) -> Pieces[str | None]:
    """The text before the first of these marks; returns the mark, which is taken, or None if the answer ends first.

    Text that may still be the beginning of a mark is held back. No mark may begin with another one.
    """
    wanted = _whole_or_begun(marks)
    while True:
        found = source.search(wanted)
        before = found[0] if found else source.size
        if before:
            yield source.take(before)
        if found and found[1] in marks:
            return source.take(len(found[1]))
        if source.ended:
            if source.size:
                yield source.take(source.size)
            return None
        yield None


def content(source: Source, *marks: str, after_call: bool = False) -> Reading[str | None]:
    """Content up to the first of these marks; returns the mark, which is taken, or None if the answer ends first.

    White space in front of a mark is no content, as templates write it there themselves; nor is white space that
    follows the last call with nothing after it.
    """
    has_text = False

    def made(text: str) -> Content:
        nonlocal has_text
        has_text = True
        return Content(text)

    mark, space = yield from told(without_end(until(source, *marks), WHITE_SPACE), made)
    if mark is not None:
        source.note(space + mark)
    if mark is None and (has_text or not after_call):
        yield Content(space)
    return mark


def content_to_the_end(source: Source) -> Reading[None]:
    """All that follows, as it comes."""
    while (yield from source.peek()):
        yield Content(source.take(source.size))


def without_end(pieces: Pieces[T], letters: str) -> Pieces[tuple[T, str]]:
    """The text without what it has of these letters at its end; those in its middle come with what follows them.

    Returns what `pieces` returns, and the end.
    """
    held: list[str] = []
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value, "".join(held)
        if piece is None:
            yield None
            continue
        text = piece.rstrip(letters)
        if text:
            yield "".join((*held, text))
            held.clear()
        held.append(piece[len(text) :])


@lru_cache(maxsize=256)
def _whole_or_begun(marks: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the first place where a mark stands, or where the text ends in the middle of one."""
    assert all(not b.startswith(a) for a in marks for b in marks if a is not b), "one mark begins with another"
    begun = sorted({mark[:size] for mark in marks for size in range(1, len(mark))}, key=len, reverse=True)
    ways = [*map(re.escape, marks), *(rf"{re.escape(beginning)}\Z" for beginning in begun)]
    return re.compile("|".join(ways) or r"(?!)")


def json_value(source: Source) -> Pieces[None]:
    """The JSON value that stands here (RFC 8259), as it is written. Malformed where it is none.

    Control characters in strings, which models write and JSON does not allow, are given as the escapes that they
    should have been.
    """
    closing: list[str] = []
    while True:
        opened = yield from _value_or_opening(source)
        if opened:
            closing.append(opened)
            if len(closing) > MAX_DEPTH:
                raise Malformed(f"JSON is nested deeper than {MAX_DEPTH} levels.")
            if (yield from _closes(source, closing)):
                closing.pop()
            else:
                if opened == "}":
                    yield from _key(source)
                continue
        while closing and (yield from _closes(source, closing)):
            closing.pop()
        if not closing:
            return
        yield from source.expect(",")
        yield ","
        if closing[-1] == "}":
            yield from _key(source)


def _closes(source: Source, closing: Sequence[str]) -> Pieces[bool]:
    """White space, and the innermost closing bracket if it follows; whether it does."""
    yield from _space(source)
    if (yield from source.peek()) != closing[-1]:
        return False
    yield source.take(1)
    return True


def _value_or_opening(source: Source) -> Pieces[str | None]:
    """A value without parts, or what opens one with parts; returns the bracket that will close it."""
    yield from _space(source)
    match (yield from source.peek()):
        case "{":
            yield source.take(1)
            return "}"
        case "[":
            yield source.take(1)
            return "]"
        case '"':
            yield from json_string_text(source)
        case "t":
            yield from _word(source, "true")
        case "f":
            yield from _word(source, "false")
        case "n":
            yield from _word(source, "null")
        case _:
            yield from _number(source)
    return None


def _key(source: Source) -> Pieces[None]:
    """A member's key and the colon after it."""
    yield from _space(source)
    yield from json_string_text(source)
    yield from _space(source)
    yield from source.expect(":")
    yield ":"


def _space(source: Source) -> Pieces[None]:
    """White space, up to what is none."""
    if space := (yield from source.run(_SPACE)):
        yield space


def _word(source: Source, word: str) -> Pieces[None]:
    yield from source.expect(word)
    yield word


def _number(source: Source) -> Pieces[None]:
    number = yield from source.run(_NUMBER_PART)
    if not number:
        raise source.malformed("a JSON value")
    if len(number) > MAX_NUMBER:
        raise Malformed(f"A number in JSON has more than {MAX_NUMBER} characters.")
    if not _NUMBER.fullmatch(number):
        raise Malformed(f"{number} is no number in JSON.")
    yield number


def json_string_text(source: Source) -> Pieces[None]:
    """The JSON string that stands here, quotes and escapes included."""
    yield from source.expect('"')
    yield '"'
    while True:
        plain = source.match(_PLAIN)
        if plain and plain[0]:
            yield source.take(len(plain[0]))
        match (yield from source.peek()):
            case "":
                raise source.malformed("the end of a string")
            case '"':
                yield source.take(1)
                return
            case "\\":
                yield from _escape(source)
            case character if character in _CONTROL:
                yield _CONTROL[source.take(1)]


def _escape(source: Source) -> Pieces[None]:
    while not source.ended and source.match(_ESCAPE_BEGUN):
        yield None
    escape = source.match(_ESCAPE)
    if escape is None:
        raise source.malformed("an escape of a JSON string", ends=source.match(_ESCAPE_BEGUN) is not None)
    yield source.take(len(escape[0]))


def json_string(source: Source) -> Waiting[str]:
    """The JSON string that stands here, as the text that it means, when it is whole. Malformed if that is no text."""
    text: str = json.loads((yield from collected(json_string_text(source))))
    if half := _SURROGATE.search(text):
        raise Malformed(f"Half of a surrogate pair (U+{ord(half[0]):04X}) is no character.")
    return text


def json_members(source: Source, member: Callable[[str], Reading[None]]) -> Reading[None]:
    """The JSON object that stands here: `member` reads the value of each key."""
    yield from source.expect("{")
    yield from source.skip_space()
    if (yield from source.takes("}")):
        return
    while True:
        key = yield from json_string(source)
        yield from source.skip_space()
        yield from source.expect(":")
        yield from source.skip_space()
        yield from member(key)
        yield from source.skip_space()
        if (yield from source.takes("}")):
            return
        yield from source.expect(",")
        yield from source.skip_space()
