"""Values as Python writes them, read as JSON while they come. It knows literals alone: nothing is evaluated.

Strings with any quotes and escapes, numbers, words (Python's and JSON's), lists, tuples and dictionaries, as
https://docs.python.org/3/reference/lexical_analysis.html and `ast.literal_eval` have them. Line breaks within a string
are part of it, as models write them.
"""

from __future__ import annotations

import json
import re

from quire_engine.text.formats.scanner import MAX_DEPTH, MAX_NUMBER, Malformed, Pieces, Source, Waiting, collected

WORDS = {"None": "null", "True": "true", "False": "false", "null": "null", "true": "true", "false": "false"}

_WORD_PART = re.compile(r"[-+.\w]*")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[^\\'\"]+")
_SIMPLE_ESCAPES = {"\n": "", "/": "/", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SIMPLE_ESCAPES |= {character: character for character in "\\'\""}
"""Python's, and the one of JSON's that Python does not have."""
_CODES = {"x": 2, "u": 4, "U": 8}
"""How many hexadecimal digits follow these letters."""
_PREFIXES = {"u", "U", "r", "R"}
"""What may stand before a string's quotes; the last two say that backslashes are text."""


def python_value(source: Source, depth: int = 0) -> Pieces[None]:
    """The JSON of the value that stands here. Malformed where it is none."""
    if depth > MAX_DEPTH:
        raise Malformed(f"A value is nested deeper than {MAX_DEPTH} levels.")
    match (yield from source.peek()):
        case "'" | '"':
            yield from _strings(source)
        case "[":
            yield from _items(source, "]", depth)
        case "(":
            yield from _items(source, ")", depth)
        case "{":
            yield from _members(source, depth)
        case _:
            text = yield from word(source)
            if text in _PREFIXES and (yield from source.peek()) in ("'", '"'):
                yield from _strings(source, is_raw=text in "rR")
            else:
                yield _word_or_number(text)


def word(source: Source, wanted: str = "a value") -> Waiting[str]:
    """The letters, digits, dots and signs that stand here: a number, a word or a name. Malformed if there are none."""
    text = yield from source.run(_WORD_PART)
    if len(text) > MAX_NUMBER:
        raise Malformed(f"A number or a name has more than {MAX_NUMBER} characters.")
    if not text:
        raise source.malformed(wanted)
    return text


def _word_or_number(text: str) -> str:
    """The JSON of what `word` has read."""
    if text in WORDS:
        return WORDS[text]
    if _JSON_NUMBER.fullmatch(text):
        return text
    try:
        return json.dumps(_number(text), allow_nan=False)
    except ValueError:
        raise Malformed(f"{text} is neither a number nor text in quotes.") from None


def _number(text: str) -> int | float:
    """The number that Python reads, or one with zeros before it. ValueError if it is none."""
    for base in (0, 10):
        try:
            return int(text, base)
        except ValueError:
            continue
    return float(text)


def _items(source: Source, closing: str, depth: int) -> Pieces[None]:
    """A list or a tuple."""
    source.take(1)
    yield "["
    separator = ""
    while not (yield from closes(source, closing)):
        yield separator
        yield from python_value(source, depth + 1)
        yield from comma_or(source, closing)
        separator = ", "
    yield "]"


def _members(source: Source, depth: int) -> Pieces[None]:
    """A dictionary. Keys that are no strings become what `json.dumps` makes of them."""
    source.take(1)
    yield "{"
    separator = ""
    while not (yield from closes(source, "}")):
        key = yield from collected(python_value(source, depth + 1))
        if key[0] in "[{":
            raise Malformed("A key of a dictionary is a list or a dictionary.")
        yield separator + (key if key.startswith('"') else json.dumps(key)) + ": "
        yield from source.skip_space()
        yield from source.expect(":")
        yield from source.skip_space()
        yield from python_value(source, depth + 1)
        yield from comma_or(source, "}")
        separator = ", "
    yield "}"


def closes(source: Source, closing: str) -> Waiting[bool]:
    """Take what closes a list of items if it stands here; whether it does."""
    yield from source.skip_space()
    return (yield from source.takes(closing))


def comma_or(source: Source, closing: str) -> Waiting[None]:
    """The comma behind an item, or nothing before what closes them, which is not taken."""
    yield from source.skip_space()
    if (yield from source.peek()) != closing:
        yield from source.expect(",")


def _strings(source: Source, *, is_raw: bool = False) -> Pieces[None]:
    """One string, or several side by side, which are one."""
    yield '"'
    while (yield from source.peek()) in ("'", '"'):
        yield from _string(source, is_raw=is_raw)
        yield from source.skip_space()
    yield '"'


def _string(source: Source, *, is_raw: bool) -> Pieces[None]:
    """What stands between quotes, one or three, as it stands in a JSON string."""
    quote = source.take(1)
    if (yield from source.takes(quote)):
        if not (yield from source.takes(quote)):
            return  # the quotes that opened it have closed it
        quote *= 3
    while not (yield from source.takes(quote)):
        if plain := source.match(_PLAIN):
            yield _in_json(source.take(len(plain[0])))
        elif not source.size:
            raise source.malformed("the end of a string")
        elif source.ahead(1) == "\\":
            yield from _raw_escape(source) if is_raw else _escape(source)
        else:
            yield _in_json(source.take(1))


def _raw_escape(source: Source) -> Pieces[None]:
    """A backslash and the character behind it, which closes nothing."""
    source.take(1)
    yield _in_json("\\" + (yield from source.peek()))
    source.take(1)


def _escape(source: Source) -> Pieces[None]:
    """What an escape means. One without a meaning is text, as in Python."""
    source.take(1)
    letter = yield from source.peek()
    if letter and letter in "01234567":
        yield _character(int((yield from _digits(source, "01234567", 3)), 8))
        return
    source.take(1)
    if letter in _CODES:
        digits = yield from _digits(source, "0123456789abcdefABCDEF", _CODES[letter])
        if len(digits) != _CODES[letter]:
            raise Malformed(f"An escape with {letter} in a string has fewer than {_CODES[letter]} digits.")
        yield _character(int(digits, 16))
    else:
        yield _in_json(_SIMPLE_ESCAPES.get(letter, "\\" + letter))


def _digits(source: Source, digits: str, most: int) -> Waiting[str]:
    """The digits that stand here, and no more than that many."""
    text = ""
    while len(text) < most and (digit := (yield from source.peek())) and digit in digits:
        text += source.take(1)
    return text


def _character(code: int) -> str:
    """The character with this code as it stands in a JSON string; halves of one stay escapes, so that they may meet."""
    if code > 0x10FFFF:
        raise Malformed(f"An escape in a string stands for no character: {code:x}.")
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else _in_json(chr(code))


def _in_json(text: str) -> str:
    """The text as it stands in a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
