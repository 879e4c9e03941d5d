"""The way out of an answer: found where it is obvious, improved where that is too long, and honest where it is not."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest
from tests.support.guided import json_grammar, vocabulary
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.guidance.closing import WaysOut, greatest_opening
from quire_engine.text.grammar.notation import GrammarText

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def thing(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


CHAIN = {
    "$defs": {"node": thing("next", next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
    "$ref": "#/$defs/node",
}


def way_out(grammar: str, begun: str = "", most: int = 10_000) -> str | None:
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    state = llguidance.LLMatcher(vocabulary().spelling, source, log_level=0)
    assert not state.is_error(), state.get_error()
    assert state.consume_tokens(vocabulary().letters(begun.encode()))
    path = WaysOut(vocabulary(), grammar).shortest(state, most)
    return None if path is None else vocabulary().spelling.decode_bytes(path).decode()


@pytest.mark.parametrize(
    ("schema", "begun", "rest"),
    [
        (thing("name", "age", name=TEXT, age=NUMBER), "", '{"name":"","age":0}'),
        (thing("name", "age", name=TEXT, age=NUMBER), '{"name": "A\\n', '","age":0}'),
        (thing("name", "age", name=TEXT, age=NUMBER), '{"na', 'me":"","age":0}'),
        ({"type": "object"}, "", "{}"),
        ({"type": "array", "items": thing("x", x=TEXT), "minItems": 2}, "", '[{"x":""},{"x":""}]'),
        ({"type": "array", "items": NUMBER}, "[[1]"[1:3], "]"),
        ({"type": "integer", "minimum": 100, "maximum": 5000}, "", "100"),
        ({"type": "string", "pattern": r"^[a-z]+@[a-z]+\.com$"}, "", '"a@a.com"'),
        ({"anyOf": [thing("a", a=TEXT), {"type": "null"}]}, "n", "ull"),
        (CHAIN, '{"next": {"next": ', "null}}"),
    ],
)
def test_json_is_closed_by_what_closes(schema: dict[str, Any], begun: str, rest: str) -> None:
    assert way_out(json_grammar(schema), begun) == rest


@pytest.mark.parametrize(
    "schema",
    [{"type": "string", "minLength": 300}, {"type": "string", "format": "uuid"}, {"minItems": 3, "type": "array"}],
)
def test_what_must_be_long_is_written_to_its_end(schema: dict[str, Any]) -> None:
    found = way_out(json_grammar(schema))
    assert found is not None
    assert len(json.loads(found)) >= schema.get("minLength", 3)


def test_a_way_that_is_too_long_is_left_for_a_shorter_one() -> None:
    schema = thing("z", a=thing("b", b=TEXT), c={"type": "array", "items": TEXT, "minItems": 3}, z=NUMBER)
    assert way_out(json_grammar(schema), most=3) == '{"z":0}'


def test_the_shortest_of_several_values_is_found_where_it_is_needed() -> None:
    assert way_out(json_grammar({"enum": ["hello world", "b", "hello"]}), most=1) == '"b"'


@pytest.mark.parametrize(("begun", "rest"), [("", "</end>0"), ("some text </e", "</end>0"), ("a < b", "</end>0")])
def test_free_text_ends_by_a_mark_that_is_no_token(begun: str, rest: str) -> None:
    notation = GrammarText(tokenizer_of("byte-level"))
    grammar = notation.whole(f"{notation.until('</end>')} {notation.json(NUMBER)}")
    assert way_out(grammar, begun) == rest


def test_free_text_ends_by_a_mark_that_is_a_token() -> None:
    notation = GrammarText(tokenizer_of("byte-level"))
    assert way_out(notation.whole(f"{notation.until('<think>')} {notation.json(NUMBER)}"), "text") == "<think>0"


def test_choices_that_lead_nowhere_give_way_to_others() -> None:
    found = way_out("start: /[0-9]*[a-z]/")
    assert found is not None
    assert found[:-1].isdigit()
    assert found[-1].islower()


@pytest.mark.parametrize("begun", range(1, 30))
def test_choices_that_go_round_in_circles_are_left(begun: int) -> None:
    found = way_out(json_grammar({"type": "integer", "multipleOf": 6}), str(begun))
    assert found is not None
    assert int(f"{begun}{found}") % 6 == 0


def test_there_is_no_telling_how_an_end_that_nothing_hints_at_is_reached() -> None:
    assert way_out("start: /.*END/") is None


def test_an_answer_that_may_end_needs_nothing() -> None:
    assert way_out("start: /a*/", "aa") == ""


@pytest.mark.parametrize(("grammar", "rest"), [(r'start: /"\d+"/', '"0"'), (r'start: "\x41b"', "Ab")])
def test_what_only_looks_like_a_text_of_the_grammar_is_passed_over(grammar: str, rest: str) -> None:
    assert way_out(grammar) == rest


@pytest.mark.parametrize(
    ("grammar", "least", "most"),
    [
        (json_grammar({"type": "array", "items": {"type": "string", "minLength": 300}}), 300, 320),
        (json_grammar(thing("a", a=TEXT)), 0, 20),
        ('start: "a" | "' + "b" * 200 + '"', 50, 200),
        ("start: /([a-z]{250})*/", 250, 250),
        (
            f'start: /[a-z]*/ ("<call>" r "</call>")?\nr: %json {json.dumps(thing("x", x=TEXT | {"minLength": 90}))}',
            90,
            120,
        ),
    ],
    ids=["items", "members", "choices", "counts", "marked parts"],
)
def test_what_one_choice_may_bring_about_is_read_off_the_grammar(grammar: str, least: int, most: int) -> None:
    assert least <= greatest_opening(vocabulary(), grammar) <= most
