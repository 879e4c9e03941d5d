"""Parts of schemas that no value completes: left out where an answer need not enter them, refused where it must."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.grammars import takes_json, vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.completion import Completion
from quire_engine.text.grammar.json_schema import as_enforced
from quire_engine.text.grammar.notation import GrammarText

NODE = {"$ref": "#/$defs/node"}


def thing(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


ENDLESS = {"$defs": {"node": thing("next", next=NODE)}}
"""Each node has another one."""


def grammar(schema: dict[str, Any]) -> str:
    notation = GrammarText(vocabulary().tokenizer)
    return notation.whole(notation.json(schema))


@pytest.mark.parametrize(
    ("schema", "enforced"),
    [
        (thing("a", a=True, b=NODE), {"properties": {"a": True, "b": False}}),
        ({"anyOf": [NODE, {"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
        ({"oneOf": [{"type": "null"}, NODE]}, {"oneOf": [{"type": "null"}]}),
        ({"type": "array", "items": NODE}, {"items": False}),
        ({"type": "array", "prefixItems": [True, NODE], "minItems": 1}, {"prefixItems": [True, False]}),
        ({"type": "object", "additionalProperties": NODE}, {"additionalProperties": False}),
        ({"type": "object", "patternProperties": {"^a": NODE}}, {"patternProperties": {"^a": False}}),
        ({"type": "array", "items": {"allOf": [NODE, {"type": "object"}]}}, {"items": False}),
    ],
    ids=str,
)
def test_no_answer_can_enter_what_has_no_end(schema: dict[str, Any], enforced: dict[str, Any]) -> None:
    written = as_enforced(schema | ENDLESS)
    assert written.items() >= enforced.items()


def test_answers_without_it_are_as_they_were() -> None:
    made = grammar(thing("a", a={"type": "integer"}, b=NODE, c={"type": "array", "items": NODE}) | ENDLESS)
    assert takes_json(made, {"a": 1})
    assert takes_json(made, {"a": 1, "c": []})
    assert not takes_json(made, {"a": 1, "b": {}})


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (ENDLESS | NODE, "/\\$defs/node/properties/next"),
        (thing("a", a=thing("next", next={"$ref": "#/properties/a"})), "/properties/a/properties/next"),
        (thing("a", a={"type": "array", "items": NODE, "minItems": 2}) | ENDLESS, "/\\$defs/node/properties/next"),
        ({"anyOf": [NODE, thing("x", x=NODE)]} | ENDLESS, "/\\$defs/node/properties/next"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "/\\$defs/b"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_schema_that_requires_it_is_refused_by_its_pointer(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(GrammarError, match=f"The schema at {place}: it is required within itself, without end"):
        as_enforced(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"node": thing("next", next={"anyOf": [NODE, {"type": "null"}]})}} | NODE,
        {"$defs": {"node": thing("all", all={"type": "array", "items": NODE})}} | NODE,
        {"$defs": {"node": thing(next=NODE)}} | NODE,
        {"$defs": {"node": thing("next", next=NODE) | {"type": ["object", "null"]}}} | NODE,
        {"$defs": {"a/b": thing("x", x={"$ref": "#/$defs/a~1b/$defs/c"}) | {"$defs": {"c": {"type": "null"}}}}}
        | {"$ref": "#/$defs/a~1b"},
    ],
    ids=str,
)
def test_what_leads_back_into_itself_and_has_an_end_stays(schema: dict[str, Any]) -> None:
    written = as_enforced(schema)
    assert {name: part for name, part in written.items() if name != "x-guidance"} == schema


def test_a_long_chain_of_definitions_is_followed_to_its_end() -> None:
    names = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1000)} | {"d1000": {"type": "null"}}
    schema = {"$defs": names, "$ref": "#/$defs/d0"}
    assert Completion(schema).size(schema) == 1


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        ({"type": "array", "items": {"type": "string", "minLength": 300}}, 300),
        (thing("a", a=True, b=thing("c", c={"type": "string", "minLength": 50})), 50),
        ({"anyOf": [{"type": "null"}, {"const": "x" * 80}]}, 80),
        ({"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 40}}, 40),
        ({"type": "array", "items": {"type": "string", "pattern": "^[a-z]{90,}$"}}, 90),
        (thing("a", "b", a=True, b={"type": "string", "minLength": 500}), 0),
    ],
    ids=lambda part: str(part)[:50],
)
def test_what_one_choice_opens_is_told(schema: dict[str, Any], size: int) -> None:
    found = Completion(schema).greatest_opening
    assert size <= found <= 3 * size + 20
