"""A grammar in the making: marks are tokens where the vocabulary has them, and never stand in free text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.grammars import takes, vocabulary

from quire_engine.text.grammar.notation import GrammarText


@pytest.fixture
def notation() -> GrammarText:
    return GrammarText(vocabulary().tokenizer)


def test_text_is_that_very_text(notation):
    grammar = notation.whole(notation.text('say "ü" \\ \n\t{}'))
    assert takes(grammar, 'say "ü" \\ \n\t{}')
    assert not takes(grammar, 'say "ü" \\ \n\t{')


def test_no_text_is_an_empty_answer(notation):
    assert takes(notation.whole(notation.text("")), "")


@pytest.mark.parametrize("mark", ["<tool_call>", "[TOOL_CALLS]", "<think>"])
def test_a_mark_that_is_a_token_has_to_be_that_token(notation, mark):
    grammar = notation.whole(notation.text(f"a{mark}b"))
    assert takes(grammar, f"a{mark}b")
    assert not takes(grammar, f"a{mark}b", as_pieces=True)


def test_a_mark_that_is_no_token_is_text(notation):
    grammar = notation.whole(notation.text("<function=f>"))
    assert takes(grammar, "<function=f>")
    assert takes(grammar, "<function=f>", as_pieces=True)


@pytest.mark.parametrize("mark", ["</think>", "[TOOL_CALLS]", "<function=", "\n</think>\n", "```json"])
@pytest.mark.parametrize("before", ["", "abc", "a < b, [x] and </thin", "\n\n", "one `x` ü"])
def test_until_ends_at_the_mark(notation, mark, before):
    grammar = notation.whole(f"{notation.until(mark)} {notation.text('!')}")
    assert takes(grammar, f"{before}{mark}!")
    assert not takes(grammar, f"{before}{mark}?")
    assert not takes(grammar, f"{before}{mark}{mark}!")
    assert not takes(grammar, before)


def test_until_ends_at_whichever_mark_comes_first(notation):
    grammar = notation.whole(f"{notation.until('<a>', '</think>')} {notation.text('!')}")
    assert takes(grammar, "x<a>!")
    assert takes(grammar, "x</think>!")
    assert not takes(grammar, "x<a></think>!")


@pytest.mark.parametrize("mark", ["<tool_call>", "[TOOL_CALLS]", "<function=", "\n[x]"])
@pytest.mark.parametrize("as_pieces", [False, True])
def test_no_mark_stands_in_any_text(notation, mark, as_pieces):
    grammar = notation.whole(notation.any_text(but=[mark]))
    assert takes(grammar, f"as far as {mark[:-1]}", as_pieces=as_pieces)
    assert not takes(grammar, f"as far as {mark}", as_pieces=as_pieces)


def test_of_a_mark_that_repeats_its_first_character_text_has_not_even_that_beginning(notation):
    grammar = notation.whole(notation.any_text(but=["```json"]))
    assert takes(grammar, "a `b` c`")
    assert not takes(grammar, "a ``b")


def test_any_text_may_be_none(notation):
    assert takes(notation.whole(notation.any_text()), "")
    assert takes(notation.whole(notation.any_text(but=["<x>"])), "")


def test_what_begins_with_a_mark_may_follow_any_text(notation):
    free = notation.any_text(but=["<f="])
    grammar = notation.whole(f"({free} {notation.text('<f=')} {notation.regex('[0-9]+')})* {free}")
    assert takes(grammar, "a <b> <f=12 c <f <f=3")
    assert not takes(grammar, "a <b> <f=x")


MARKS = st.lists(st.text("<ab=", min_size=1, max_size=4), min_size=1, max_size=3)


@given(marks=MARKS, text=st.text("<ab=x", max_size=12))
def test_whatever_the_marks_are_text_has_none_of_them(marks, text):
    notation = GrammarText(vocabulary().tokenizer)
    if takes(notation.whole(notation.any_text(but=marks)), text, as_pieces=True):
        assert not any(mark in text for mark in marks)


@given(rest=st.lists(st.text("ab=", max_size=3), min_size=1, max_size=3), text=st.text("<ab=x", max_size=12))
def test_marks_that_begin_with_their_own_character_take_nothing_else_from_text(rest, text):
    marks = [f"<{end}" for end in rest]
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(notation.any_text(but=marks))
    assert takes(grammar, text, as_pieces=True) == (not any(mark in text for mark in marks))


def test_equal_parts_are_written_once(notation):
    first, second = notation.json({"type": "integer"}), notation.json({"type": "integer"})
    assert first == second
    assert notation.whole(f"{first} {second}").count("%json") == 1


def test_json_has_no_more_than_a_space_behind_its_commas_and_colons(notation):
    grammar = notation.whole(notation.json({"type": "object"}))
    assert takes(grammar, '{"a":1,"b":[true, null]}')
    assert takes(grammar, '{"a": 1, "b": [true,null]}')
    assert not takes(grammar, '{"a":  1}')
    assert not takes(grammar, '{ "a": 1}')
    assert not takes(grammar, '{\n"a": 1}')


def test_json_strings_have_no_raw_control_characters(notation):
    grammar = notation.whole(notation.json({"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}}))
    for code in range(32):
        assert not takes(grammar, '{"a":"' + chr(code) + '"}')
    assert takes(grammar, '{"a":"\\n\\""}')
