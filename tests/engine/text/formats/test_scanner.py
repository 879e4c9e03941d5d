"""Marks are found across the borders of pieces, and JSON is read as it comes: what is no JSON ends the reading."""

from __future__ import annotations

import json
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.text.formats.chunking import check_any_cut, cuts, read

from quire_engine.text.formats.events import CallArguments, CallBroken, Content, joined
from quire_engine.text.formats.scanner import MAX_DEPTH, MAX_NUMBER, Reader, Reading, Source, content, json_value, told

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reading_of_json(source: Source) -> Reading[None]:
    yield from told(json_value(source), lambda text: CallArguments(0, text))
    while (yield from source.peek()):
        yield Content(source.take(1))


def read_json(text: str) -> list[object]:
    """The events of one JSON value, the same however it is cut. A value that ends and one that breaks both count."""
    whole = read(Reader(reading_of_json), [text])
    for pieces in cuts(text, random.Random(text), times=5, pairs=len(text) < 60):
        assert read(Reader(reading_of_json), pieces) == whole, f"cut as {pieces}"
    return list(whole)


@given(value=json_values, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
def test_json_is_given_as_it_is_written_to_its_end_and_no_further(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert read_json(f"{text} more") == joined([CallArguments(0, text), Content(" more")])


@given(text=st.text(alphabet='{}[]",:\\ tru10.-e\n', max_size=20))
def test_what_is_read_without_an_error_is_json(text):
    events = read_json(text)
    if not any(isinstance(event, CallBroken) for event in events):
        first = events[0]
        assert isinstance(first, CallArguments)
        json.loads(first.text)
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The answer ends where a JSON value has to stand."),
        ('{"a": tru', "The answer ends where 'true' has to stand."),
        ('{"a": tru}', "'t' stands where 'true' has to stand."),
        ('{"a" 1}', "'1' stands where ':' has to stand."),
        ('{"a": 1,}', "'}' stands where '\"' has to stand."),
        ("[1 2]", "'2' stands where ',' has to stand."),
        ('{"a": 01}', "01 is no number in JSON."),
        ('{"a": NaN}', "'N' stands where a JSON value has to stand."),
        ('{"a": "\\x"}', "'\\\\' stands where an escape of a JSON string has to stand."),
        ('{"a": "\\u12', "The answer ends where an escape of a JSON string has to stand."),
        ('{"a": "b', "The answer ends where the end of a string has to stand."),
        ("[" * (MAX_DEPTH + 1), f"JSON is nested deeper than {MAX_DEPTH} levels."),
        ("2001" * MAX_NUMBER, f"A number in JSON has more than {MAX_NUMBER} characters."),
    ],
)
def test_what_is_no_json_is_said_in_a_sentence(text, reason):
    assert read_json(text)[-1] == CallBroken(0, reason)


def test_control_characters_in_strings_become_the_escapes_they_should_have_been():
    (event,) = read_json('{"code": "a\n\tb\x01"}')
    assert event == CallArguments(0, '{"code": "a\\n\\tb\\u0001"}')


def reading_of_content(source: Source) -> Reading[None]:
    seen = False
    while mark := (yield from content(source, "<call>", "[x]", after_call=seen)):
        seen = True
        yield CallArguments(0, mark)


@given(parts=st.lists(st.sampled_from(["<call>", "[x]", "<", "<ca", "[", "x", " ", "\n", "ab", "]"]), max_size=12))
def test_marks_are_found_wherever_the_text_is_cut(parts):
    text = "".join(parts)
    whole = read(Reader(reading_of_content), [text])
    for pieces in cuts(text, random.Random(text), times=10):
        assert read(Reader(reading_of_content), pieces) == whole, f"cut as {pieces}"
    found = "".join(event.text for event in whole if isinstance(event, CallArguments))
    assert found == "".join(re.findall(r"<call>|\[x\]", text))


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("Hello \n", [Content("Hello \n")]),
        ("Hello \n<call>", [Content("Hello"), CallArguments(0, "<call>")]),
        ("\n<call>\n [x] ", [CallArguments(0, "<call>[x]")]),
        ("<call>\nSo.\n", [CallArguments(0, "<call>"), Content("\nSo.\n")]),
    ],
)
def test_white_space_in_front_of_a_mark_and_after_the_last_one_is_no_content(text, events):
    assert read(Reader(reading_of_content), [text]) == events


def test_white_space_that_is_held_back_is_looked_at_once():
    parser = Reader(reading_of_content)
    began = time.process_time()
    for _ in range(40_000):
        assert parser.push("\n" * 25) == []
    (event,) = parser.push("a")
    assert event == Content("\n" * 1_000_000 + "a")
    assert time.process_time() - began < 10  # looked at again with each push, it takes minutes


def test_no_more_is_held_back_than_what_may_be_a_mark():
    parser = Reader(reading_of_content)
    assert parser.push("a < b <ca") == [Content("a < b")]
    assert parser.push("r") == [Content(" <car")]
    assert parser.push(" ") == []
    assert parser.push("d") == [Content(" d")]


def test_what_is_taken_can_be_put_back_across_pieces():
    def reading(source: Source) -> Reading[None]:
        yield Content(source.take(1))
        source.hold()
        while not source.ended:
            source.take(source.size)
            yield None
        source.back()
        yield Content(source.take(source.size))

    assert check_any_cut("abcdef", lambda: Reader(reading)) == [Content("abcdef")]
