"""The forms that a request may ask for: schemas, choices, regular expressions, grammars."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.grammars import takes, vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.grammar.forms import form, style_of
from quire_engine.text.grammar.notation import GrammarText
from quire_protocol import StructuredOutputsParams


def grammar(**asked: Any) -> str:
    params = StructuredOutputsParams(**asked)
    notation = GrammarText(vocabulary().tokenizer, style=style_of(params))
    whole = notation.whole(form(params, notation))
    return Grammars(vocabulary().tokenizer).check(whole, "structured_outputs")


def test_any_object():
    assert takes(grammar(json_object=True), '{"a": [1, {"b": null}]}')
    assert not takes(grammar(json_object=True), "[1]")


def test_a_schema_as_an_object_or_as_text():
    for schema in ({"type": "integer"}, '{"type": "integer"}'):
        assert takes(grammar(json=schema), "12")
        assert not takes(grammar(json=schema), '"12"')


def test_one_of_several_texts():
    made = grammar(choice=["a", "ab", 'say "ü"', "<think>", "[TOOL_CALLS]"])
    for text in ("a", "ab", 'say "ü"'):
        assert takes(made, text)
    for text in ("", "abc", "b"):
        assert not takes(made, text)


def test_a_choice_is_text_also_where_it_looks_like_a_mark():
    made = grammar(choice=["<think>", "no"])
    assert takes(made, "<think>", as_pieces=True)
    assert not takes(made, "<think>")  # as a token it would not be seen in the answer


@pytest.mark.parametrize("pattern", ["[0-9]{2}/[a-z]+", "^[0-9]{2}/[a-z]+$"])
def test_a_regular_expression_matches_the_whole_answer(pattern):
    made = grammar(regex=pattern)
    assert takes(made, "12/ab")
    assert not takes(made, "x12/ab")
    assert not takes(made, "12/ab!")


@pytest.mark.parametrize("pattern", ["(", "[a-z", "a{2,1}", "(?=a)", r"\bword\b", r"(a)\1", "\ud800", "a" * 200_000])
def test_a_regular_expression_that_cannot_be_matched_is_refused(pattern):
    with pytest.raises(GrammarError, match="The regular expression"):
        grammar(regex=pattern)


def test_a_grammar_in_ebnf():
    made = grammar(grammar='root ::= greeting " " [a-z]+\ngreeting ::= "hello" | "bye"')
    assert takes(made, "bye bye")
    assert not takes(made, "good bye")


def test_a_grammar_in_lark():
    made = grammar(grammar='start: sum\nsum: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/\n%ignore /[ ]{1,2}/\n')
    assert takes(made, "1 + 22+3")
    assert not takes(made, "1 +")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("start: other", "unknown name"),
        ('start: "a', "1\\("),
        ('root ::= ("a"', "Expected '\\)' at line 1"),
        ('start: "a" }\nr9: "b"', "The grammar"),
        ('start: "b"\nstart: "a"', "duplicate rule"),
        ("start: %json {}", "use json"),
        ("start: r0\n" + "\n".join(f'r{n}: "a"' for n in range(499)), "500 rules; 400 is the most"),
        (f"start: A\nA: {' & '.join('/a/' for _ in range(9))}", "uses & 8 times"),
        (f"start: {'(' * 500}", "deeply nested"),
        ("", "The grammar"),
    ],
    ids=lambda part: part[:20],
)
def test_a_grammar_that_cannot_be_used_is_refused(text, problem):
    with pytest.raises(GrammarError, match=problem):
        grammar(grammar=text)


def test_a_grammar_that_contradicts_itself_is_refused():
    with pytest.raises(GrammarError):
        grammar(grammar="start: A\nA: /a+/ & /b+/")


def test_whitespace():
    made = grammar(json={"type": "object"}, disable_any_whitespace=True)
    assert takes(made, '{"a":1}')
    assert not takes(made, '{"a": 1}')
    made = grammar(json={"type": "object"}, whitespace_pattern="[\\n ]?")
    assert takes(made, '{ "a" : 1\n}')
    assert not takes(made, '{  "a": 1}')


@pytest.mark.parametrize("pattern", ["[ ]*", " +", "\\s{2,}", "(\\n| )*"])
def test_whitespace_without_bounds_is_refused(pattern):
    with pytest.raises(GrammarError, match="bounds") as refused:
        grammar(json={"type": "object"}, whitespace_pattern=pattern)
    assert refused.value.param == "structured_outputs.whitespace_pattern"


def test_signs_in_a_class_are_no_repetition():
    assert takes(grammar(json={"type": "object"}, whitespace_pattern="[ *+]?"), '{*"a":1}')


def test_objects_may_be_closed():
    made = grammar(json={"type": "object", "properties": {"a": {}}}, disable_additional_properties=True)
    assert takes(made, json.dumps({"a": 1}))
    assert not takes(made, json.dumps({"b": 1}))
