"""Arguments as text hold to their schema, or the schema is refused with the place of what cannot be held."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.text.formats.constrained import check_random_calls, holds

from quire_engine.errors import GrammarError
from quire_engine.text.formats.base import Tool
from quire_engine.text.formats.tools.qwen3_xml import QWEN3_XML
from quire_engine.text.formats.tools.text_values import Types, properties_of


def tool(schema: Any, **more: Any) -> Tool:
    return Tool("f", {"type": "object", "properties": {"x": schema}, "required": ["x"], **more})


def call(text: str) -> str:
    return f"<tool_call>\n<function=f>\n<parameter=x>\n{text}\n</parameter>\n</function>\n</tool_call>"


DEFINITIONS = {
    "size": {"enum": ["s", "m"]},
    "tree": {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/tree"}},
        "required": ["n"],
        "additionalProperties": False,
    },
}

SCHEMAS: list[tuple[Any, list[str], list[str]]] = [
    ({"type": "string"}, ["", "a", "a\n b", "1", "<b>"], []),
    ({}, ["a", "1"], []),
    (True, ["a"], []),
    ({"enum": ["a b", "c"]}, ["a b", "c"], ["a", "", "d"]),
    ({"const": "on"}, ["on"], ["off"]),
    ({"enum": ["a", 1, None]}, ["a", "1", "null"], ["2"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "日本語"], ["a", "abcd"]),
    ({"type": "string", "pattern": "^[a-z]+$"}, ["abc"], ["", "a1", "ABC"]),
    ({"type": "string", "pattern": "[0-9]"}, ["7", "a7b"], ["ab"]),
    ({"type": "string", "pattern": "^a|^b$"}, ["ax", "b"], ["xa", "bx"]),
    ({"type": "string", "pattern": "^(a|b)$"}, ["a", "b"], ["ab"]),
    ({"type": "string", "pattern": "^[$|]\\$$"}, ["|$"], ["|"]),
    ({"type": "string", "format": "date", "description": "when"}, ["2026-01-01"], []),
    ({"type": "integer", "minimum": 5}, ["5", "77"], ["4", "x", "5.5"]),
    ({"type": "boolean"}, ["true"], ["yes", ""]),
    ({"type": ["string", "null"]}, ["null", "a"], []),
    ({"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}, ["a", "null"], ["b"]),
    ({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 10}]}, ["12", "ab", "", "x 9"], ["9"]),
    ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}, ["[1]", "ab"], ['["a"]']),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ['["a"]', "[]"], ["a"]),
    ({"$ref": "#/$defs/size"}, ["s", "m"], ["l"]),
    ({"$ref": "#/$defs/tree"}, ['{"n": 1}', '{"n": 1, "next": {"n": 2}}'], ["{}", "n"]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), SCHEMAS, ids=lambda each: str(each)[:60])
def test_text_is_held_to_its_schema(schema, good, bad):
    tools = [tool(schema, **{"$defs": DEFINITIONS})]
    assert [text for text in good if not holds(QWEN3_XML, call(text), tools=tools)] == []
    assert [text for text in bad if holds(QWEN3_XML, call(text), tools=tools)] == []
    check_random_calls(QWEN3_XML, tools, several=False, rounds=15)


def test_arguments_that_are_not_required_may_be_left_out_and_no_others():
    tools = [Tool("f", {"properties": {"x": {"type": "null"}, "y": {"type": "null"}}, "required": ["x"]})]
    assert holds(QWEN3_XML, call("null"), tools=tools)
    assert not holds(QWEN3_XML, call("null").replace("=x", "=y"), tools=tools)
    assert not holds(QWEN3_XML, call("null").replace("=x", "=z"), tools=tools)


@pytest.mark.parametrize(
    ("parameters", "is_free"),
    [
        ({}, True),
        ({"properties": {}}, True),
        ({"type": "object", "additionalProperties": {"type": "string"}}, True),
        ({"additionalProperties": {"type": "integer"}}, False),
        ({"additionalProperties": False}, False),
    ],
)
def test_where_no_argument_is_named_any_text_is_one_unless_it_is_excluded(parameters, is_free):
    tools = [Tool("f", parameters)]
    assert holds(QWEN3_XML, call("a <b>"), tools=tools) is is_free
    assert holds(QWEN3_XML, "<tool_call>\n<function=f>\n</function>\n</tool_call>", tools=tools)


REFUSED = [
    (Tool("f", {"anyOf": [{"required": ["x"]}]}), "/anyOf, in the parameters of f, "),
    (tool({"type": "string", "not": {"const": "a"}}), "/properties/x/not, in the parameters of f, "),
    (tool({"type": "string", "pattern": "^a+$", "maxLength": 3}), "pattern beside a length, at /properties/x in "),
    (Tool("f", {"properties": {"a>b": {"type": "string"}}}), "'a>b', in the parameters of f, "),
]


@pytest.mark.parametrize(("refused", "message"), REFUSED, ids=lambda each: str(each)[:60])
def test_what_cannot_be_held_is_refused_with_its_place(refused, message):
    with pytest.raises(GrammarError) as problem:
        holds(QWEN3_XML, "", tools=[refused])
    assert str(problem.value).startswith(message)
    assert problem.value.param == "tools"


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}),
        ({"oneOf": [{"type": "integer"}, {"properties": {}}]}, {"integer", "object"}),
        ({"items": {}}, {"array"}),
        ({"const": 1.5}, {"number"}),
        ({"$ref": "#/nowhere"}, {"string"}),
        ({"$ref": "#/properties/self"}, {"string"}),
        ({"type": "date"}, {"string"}),
    ],
)
def test_the_types_of_a_schema(schema, types):
    assert Types({"properties": {"self": {"$ref": "#/properties/self"}}}).of(schema) == types


@pytest.mark.parametrize("wrong", [{"type": 5}, {"type": None}, {"type": [{"type": "null"}, 7]}, {"anyOf": [3]}, 7])
def test_a_schema_that_is_none_is_one_of_text(wrong):
    assert properties_of([tool(wrong)], "f") == {"x": {"string"}}


def multiplying(*, levels: int, choices: int) -> dict[str, Any]:
    """Definitions of which each is a choice of the next one, many times over."""
    definitions: dict[str, Any] = {
        f"A{level}": {"anyOf": [{"$ref": f"#/$defs/A{level + 1}", "title": str(title)} for title in range(choices)]}
        for level in range(levels)
    }
    return {**definitions, f"A{levels}": {"enum": ["a", 1]}}


def test_references_in_choices_do_not_multiply():
    schema = tool({"$ref": "#/$defs/A0"}, **{"$defs": multiplying(levels=30, choices=30)})  # 30**30 ways
    assert properties_of([schema], "f") == {"x": {"string", "integer"}}
    assert holds(QWEN3_XML, call("1"), tools=[schema])
    assert not holds(QWEN3_XML, call("2"), tools=[schema])
