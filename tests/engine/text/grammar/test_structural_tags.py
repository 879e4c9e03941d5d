"""Structural tags: free text with marked parts that follow a form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.grammars import takes, vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.notation import GrammarText
from quire_engine.text.grammar.structural_tags import structural_tag

NUMBER = {"type": "json_schema", "json_schema": {"type": "integer"}}


def grammar(tag: Any) -> str:
    notation = GrammarText(vocabulary().tokenizer)
    text = tag if isinstance(tag, str) else json.dumps(tag)
    return notation.whole(structural_tag(text, notation))


def of(form: dict[str, Any]) -> str:
    return grammar({"type": "structural_tag", "format": form})


def tag(begin: str, end: str = "</f>", content: Any = NUMBER) -> dict[str, Any]:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def test_the_older_spelling():
    structures = [{"begin": "<f=a>", "schema": {"type": "integer"}, "end": "</f>"}, {"begin": "<f=b>", "end": "</f>"}]
    made = grammar({"type": "structural_tag", "structures": structures, "triggers": ["<f="]})
    assert takes(made, "Text, and <b>more</b>.")
    assert takes(made, 'One <f=a>1</f> two <f=b>{"x": 2}</f>.')
    assert not takes(made, "One <f=a>x</f>")
    assert not takes(made, "One <f=c>")
    assert not takes(made, "One <f=a>1")


TRIGGERED = {"type": "triggered_tags", "triggers": ["<f="], "tags": [tag("<f=a>"), tag("<f=b>")]}


@pytest.mark.parametrize(
    ("more", "valid", "invalid"),
    [
        ({}, ["", "x", "<f=a>1</f>", "x<f=a>1</f>y<f=b>2</f>z"], ["<f=c>", "<f=a>x</f>"]),
        ({"at_least_one": True}, ["x<f=a>1</f>y", "<f=a>1</f><f=a>1</f>"], ["", "x"]),
        ({"stop_after_first": True}, ["", "x", "x<f=a>1</f>"], ["x<f=a>1</f>y"]),
        ({"at_least_one": True, "stop_after_first": True}, ["x<f=a>1</f>"], ["x", "<f=a>1</f>y"]),
        ({"excludes": ["bad"]}, ["good"], ["so bad"]),
    ],
    ids=str,
)
def test_triggered_tags(more, valid, invalid):
    made = of({**TRIGGERED, **more})
    assert [text for text in valid if not takes(made, text)] == []
    assert [text for text in invalid if takes(made, text)] == []


@pytest.mark.parametrize(
    ("form", "valid", "invalid"),
    [
        ({"type": "const_string", "value": "so"}, ["so"], ["", "no"]),
        ({"type": "any_text"}, ["", "x <y>"], []),
        ({"type": "any_text", "excludes": ["<y"]}, ["x <z"], ["x <y"]),
        ({"type": "regex", "pattern": "[a-c]+"}, ["abc"], ["d"]),
        ({"type": "grammar", "grammar": 'root ::= "a" | "b"'}, ["a"], ["c"]),
        (NUMBER, ["12"], ["x"]),
        (tag("<a>", "</a>", {"type": "any_text"}), ["<a></a>", "<a>1 < 2</a>"], ["<a>", "<a></a>x"]),
        (tag("<a>", ["</a>", "</b>"], NUMBER), ["<a>1</a>", "<a>1</b>"], ["<a>1</c>"]),
        ({"type": "sequence", "elements": [{"type": "any_text"}, tag("<f=a>")]}, ["x<f=a>1</f>"], ["x", "<f=a>1</f>x"]),
        ({"type": "or", "elements": [NUMBER, tag("<f=a>")]}, ["1", "<f=a>1</f>"], ["1<f=a>1</f>"]),
        ({"type": "optional", "content": NUMBER}, ["", "1"], ["x"]),
        ({"type": "plus", "content": tag("<f=a>")}, ["<f=a>1</f><f=a>2</f>"], [""]),
        ({"type": "star", "content": tag("<f=a>")}, ["", "<f=a>1</f>"], ["x"]),
        (
            {"type": "tags_with_separator", "tags": [tag("<f=a>")], "separator": ", "},
            ["", "<f=a>1</f>", "<f=a>1</f>, <f=a>2</f>"],
            ["<f=a>1</f><f=a>2</f>"],
        ),
        (
            {"type": "tags_with_separator", "tags": [tag("<f=a>")], "separator": ",", "stop_after_first": True},
            ["", "<f=a>1</f>"],
            ["<f=a>1</f>,<f=a>2</f>"],
        ),
    ],
    ids=str,
)
def test_every_format(form, valid, invalid):
    made = of(form)
    assert [text for text in valid if not takes(made, text)] == []
    assert [text for text in invalid if takes(made, text)] == []


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("{", "no JSON"),
        ({"type": "structural_tag"}, "has neither"),
        (
            {"format": {"type": "token", "token": 3}},
            "/format: the format 'token' is not known here: use one of any_text",
        ),
        (
            {"format": tag("<a>", content={"type": "json_schema", "json_schema": {"not": {}}})},
            "/format/content/json_schema/not",
        ),
        ({"format": {"type": "sequence", "elements": []}}, "/format/elements"),
        ({"format": {"type": "any_text", "max_chars": 3}}, "/format/max_chars"),
        ({"format": {**TRIGGERED, "triggers": []}}, "/format/triggers"),
        ({"format": {**TRIGGERED, "triggers": ["<g"]}}, "/format/tags/0/begin: '<f=a>' has to begin with exactly one"),
        ({"structures": [{"schema": {}, "end": "x"}], "triggers": ["<"]}, "/tags/0/begin: here stands a text"),
        ({"format": {"type": "json_schema", "json_schema": {}, "style": "qwen_xml"}}, "/format/style"),
    ],
    ids=str,
)
def test_a_structural_tag_that_cannot_be_used_is_refused(asked, problem):
    with pytest.raises(GrammarError, match=problem):
        grammar(asked)
