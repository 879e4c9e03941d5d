"""JSON Schemas: what can be enforced is, what cannot is refused by its JSON pointer, and nothing in between."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pytest
from tests.support.grammars import takes, takes_json, vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.grammar.json_schema import COMPACT, REFUSED, Document, JsonStyle, as_enforced, loaded
from quire_engine.text.grammar.notation import GrammarText


def grammar(schema: Any, style: JsonStyle = COMPACT) -> str:
    notation = GrammarText(vocabulary().tokenizer, style=style)
    return notation.whole(notation.json(schema))


def nested(levels: int, schema: dict[str, Any]) -> dict[str, Any]:
    """An object in an object, this deep, and in the innermost one this schema."""
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


KEYWORDS: tuple[tuple[dict[str, Any], list[Any], list[Any]], ...] = (
    ({"type": "integer"}, [1, -2, 0], [1.5, "1", None]),
    ({"type": ["string", "null"]}, ["a", None], [1]),
    ({"enum": [1, "a", None, [2]]}, [1, "a", None, [2]], [2, "b"]),
    ({"const": {"a": 1}}, [{"a": 1}], [{"a": 2}, {}]),
    ({"type": "number", "minimum": 0.5, "maximum": 2}, [0.5, 1.25, 2], [0.4, 2.1]),
    ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}, [1, 2], [0, 3]),
    ({"type": "integer", "multipleOf": 3}, [3, -9, 0], [4]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "ü€😀"], ["a", "abcd"]),
    ({"type": "string", "minLength": 2.0}, ["ab"], ["a"]),
    ({"type": "string", "pattern": "^a[0-9]+$"}, ["a1", "a22"], ["a", "ba1", "a1x"]),
    ({"type": "string", "pattern": "[0-9]"}, ["a1b"], ["ab"]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]],
        [[], [1, 2, 3], ["a"]],
    ),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, [[1], []], [["a"], [1, 2]]),
    ({"type": "array", "items": [{"type": "integer"}], "additionalItems": False}, [[1]], [["a"], [1, 2]]),
    (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        [{"a": 1, "b": 2}],
        [{}, {"a": "x"}],
    ),
    ({"type": "object", "properties": {"a": True}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
    ({"type": "object", "patternProperties": {"^n": {"type": "integer"}}}, [{"n1": 1, "x": "y"}], [{"n1": "x"}]),
    (
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1},
        [{}, {"a": 1}],
        [{"a": 1, "b": 1}],
    ),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [1, None], ["a"]),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, [3], [2, "a"]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None]),
    ({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}, [1], ["a"]),
    ({"definitions": {"a/b": {"type": "integer"}}, "$ref": "#/definitions/a~1b"}, [1], ["a"]),
    ({"type": "string", "format": "uuid"}, ["12345678-1234-1234-1234-123456789abc"], ["1234"]),
    ({"type": "string", "format": "ipv4"}, ["127.0.0.1"], ["256.0.0.1"]),
    (
        {"type": "string", "format": "date"},
        ["2024-02-29", "2023-12-31"],
        ["2023-02-29", "2100-02-29", "2023-04-31", "0000-01-01"],
    ),
    ({"type": "string", "format": "time"}, ["23:59:59Z", "01:02:03.5+01:00"], ["24:00:00Z", "23:59:60Z", "12:00"]),
    ({"type": "string", "format": "date-time"}, ["2024-02-29T01:02:03Z"], ["2024-02-30T01:02:03Z", "2024-02-29"]),
    ({"type": "string", "format": "date", "pattern": "^2"}, ["2024-01-01"], ["1999-01-01"]),
    ({"type": "integer", "format": "int8"}, [127, -128], [128]),
    ({"type": "integer", "format": "uint", "minimum": 3}, [3], [2, -1]),
    ({"type": "string", "format": "password"}, ["secret"], [1]),
    (
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}},
        [{"a": 1}],
        [{"c": 1}, {"a": "x"}],
    ),
    ({"type": "object", "propertyNames": {"pattern": "^a"}}, [{"ab": 1}], [{"b": 1}]),
    (
        {"type": "object", "propertyNames": {"$ref": "#/$defs/k"}, "$defs": {"k": {"enum": ["a"]}}},
        [{"a": 1}],
        [{"b": 1}],
    ),
)


@pytest.mark.parametrize(("schema", "valid", "invalid"), KEYWORDS, ids=lambda part: json.dumps(part)[:60])
def test_a_keyword_is_enforced(schema, valid, invalid):
    made = grammar(schema)
    assert [value for value in valid if not takes_json(made, value)] == []
    assert [value for value in invalid if takes_json(made, value)] == []


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_a_keyword_that_cannot_be_enforced_is_refused_by_its_pointer(keyword):
    beside = {"if": {"then": {}}, "then": {"if": {}}, "else": {"if": {}}}.get(keyword, {"contains": {}, "then": {}})
    schema = {"type": "object", "properties": {"a/b": {**beside, keyword: {"const": 1}}}}
    with pytest.raises(GrammarError, match=r"/properties/a~1b/(if|then|else|contains|\$?\w+)"):
        as_enforced(schema)
    with pytest.raises(GrammarError) as refused:
        as_enforced({keyword: {"const": 1}} | ({"if": {}} if keyword in ("then", "else") else {}) | beside)
    assert "cannot be enforced" in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"uniqueItems": False},
        {"not": False},
        {"if": {"const": 1}},
        {"then": {"const": 1}},
        {"minContains": 2},
        {"propertyNames": {"type": "string"}},
        {"unevaluatedProperties": True},
        {"dependentRequired": {}},
    ],
    ids=json.dumps,
)
def test_a_keyword_that_says_nothing_is_left_out(schema):
    assert takes_json(grammar(schema), {"a": [1, 1]})


def test_what_is_for_readers_and_words_unknown_to_json_schema_are_left_out():
    schema = {"title": "t", "description": "d", "examples": [1], "x-order": 3, "type": "integer", "default": 0}
    assert as_enforced(schema).keys() == {"type", "x-guidance"}


def test_the_librarys_options_are_no_part_of_a_schema():
    made = grammar({"x-guidance": {"lenient": True, "whitespace_flexible": True}, "type": "object"})
    assert not takes(made, "{  }")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (False, "no JSON"),
        ({"properties": {"a": 3}}, "/properties/a: a schema is an object, true or false, not a number"),
        ({"properties": []}, "/properties: here stands an object of schemas"),
        ({"anyOf": {}}, "/anyOf: here stands a list"),
        ({"$ref": "https://example.org/schema"}, "nothing is fetched"),
        ({"$ref": "#/$defs/none"}, "/\\$ref: #/\\$defs/none points to no schema"),
        ({"$ref": "#/x-defs/a", "x-defs": {"a": {}}}, "put it under \\$defs"),
        ({"$ref": 3}, "a reference is text, not a number"),
        ({"format": "regex"}, "the format 'regex' cannot be enforced: use one of date"),
        ({"format": ["date"]}, "a format is text, not a list"),
        ({"enum": ["a\x01"]}, "/enum: 'a\\\\x01' has the character U\\+0001"),
        ({"const": "\ud800"}, "U\\+D800"),
        ({"properties": {"\x00": {}}}, "U\\+0000"),
        ({"minProperties": 3, "required": ["a"]}, "/minProperties: 3 properties cannot be enforced"),
        ({"multipleOf": 99991}, "/multipleOf: multiples of 99991"),
        ({"allOf": [{"pattern": f"a{{{n}}}"} for n in range(7)]}, "one value has 7 patterns and formats at once"),
        ({"allOf": [{"properties": {"a": {"pattern": f"a{{{n}}}"}}} for n in range(7)]}, "7 patterns and formats"),
        (
            {
                "$defs": {f"p{n}": {"pattern": f"a{{{n}}}"} for n in range(7)},
                "allOf": [{"$ref": f"#/$defs/%70{n}"} for n in range(7)],
            },
            "7 patterns and formats at once",
        ),
        (
            {
                "$defs": {f"p{n}": {"$anchor": f"p{n}", "pattern": f"a{{{n}}}"} for n in range(7)},
                "allOf": [{"$ref": f"#p{n}"} for n in range(7)],
            },
            "7 patterns and formats at once",
        ),
        (
            {
                "$id": "http://x/r",
                "$defs": {"p": {"$id": "p", "pattern": "a"}},
                "allOf": [{"$ref": "p"}, {"type": "string"}],
            },
            "p stands beside other keywords, where references are JSON pointers",
        ),
        ({"allOf": [nested(13, {"pattern": f"a{{{n}}}"}) for n in range(7)]}, "7 patterns and formats at once"),
        ({"allOf": [{"multipleOf": 7}, {"multipleOf": 11}]}, "2 multipleOf at once"),
        ({"patternProperties": {f"^a{n}_": {} for n in range(65)}}, "65 patterns for keys"),
        (
            {
                "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1300)} | {"d1300": {}},
                "$ref": "#/$defs/d0",
            },
            "levels of schemas",
        ),
    ],
    ids=lambda part: str(part)[:50],
)
def test_a_schema_that_cannot_be_used_is_refused(schema, problem):
    with pytest.raises(GrammarError, match=problem):
        as_enforced(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"$ref": {"type": "string"}, "name": {"type": "string"}}},
        {"type": "object", "properties": {"patternProperties": True, "anyOf": True, "items": True}},
        {"const": {"anyOf": 5, "x": 1}},
        {"enum": [{"$ref": 4, "x": 1}]},
        {"$defs": {"oneOf": {"type": "string", "pattern": "a"}}, "type": "object"},
    ],
    ids=str,
)
def test_names_and_values_may_be_called_as_keywords_are(schema):
    assert as_enforced(schema).items() >= schema.items()


def test_parts_that_refer_to_one_large_part_are_looked_through_within_bounds():
    large = {"type": "object", "properties": {f"k{n}": {"type": "string", "pattern": "a"} for n in range(3000)}}
    parts = {f"q{n}": {"type": "object", "$ref": "#/$defs/large"} for n in range(100)}
    with pytest.raises(GrammarError, match="too entangled"):
        as_enforced({"$defs": {"large": large}, "type": "object", "properties": parts})


def test_a_schema_may_not_be_too_deep():
    schema: dict[str, Any] = {}
    for _ in range(70):
        schema = {"items": schema}
    with pytest.raises(GrammarError, match="64 levels"):
        as_enforced(schema)


def test_pointers_begin_where_the_schema_stands():
    with pytest.raises(GrammarError, match="/tools/0/properties/a/not:"):
        as_enforced({"properties": {"a": {"not": {}}}}, pointer="/tools/0")


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf cannot be enforced unless"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .* is greater than maximum"),
        ({"type": "nope"}, "Invalid type: nope"),
        ({"type": "string", "pattern": "(?=a)"}, "regex parse error"),
        ({"enum": []}, "Unsatisfiable"),
        ({"patternProperties": {"a": {}, "b": {}}}, "not disjoint"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_only_the_library_finds_is_told_by_its_pointer_too(part, problem):
    schema = {
        "$defs": {"d": {}},
        "type": "object",
        "properties": {"a": {"type": "array", "items": part, "minItems": 1}},
        "required": ["a"],
    }
    document = Document(schema, COMPACT, "")
    with pytest.raises(GrammarError, match=f"/properties/a/items: .*{problem}") as refused:
        Grammars(vocabulary().tokenizer).check_schema(document, "response_format")
    assert refused.value.param == "response_format"


def test_a_key_has_one_spelling():
    made = grammar({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert takes(made, '{"a": 1}')
    assert not takes(made, '{"\\u0061": "x"}')
    assert not takes(made, '{"a": 1, "a": "x"}')


def test_closed_objects_have_the_properties_they_name():
    made = grammar({"type": "object", "properties": {"a": {"type": "object"}}}, JsonStyle(closed=True))
    assert takes(made, '{"a": {"b": 1}}')
    assert not takes(made, '{"b": 1}')


@pytest.mark.parametrize("style", [COMPACT, JsonStyle(",", ":"), JsonStyle(whitespace="[ \\n]{1,3}")], ids=str)
def test_whitespace_is_bounded(style):
    made = grammar({"type": "array", "items": {"type": "integer"}}, style)
    assert takes(made, "[1,2]")
    assert not takes(made, f"[1,{' ' * 4}2]")
    assert not takes(made, f"[{' ' * 4}1]")


def test_whitespace_that_was_asked_for_may_stand_everywhere():
    made = grammar({"type": "object", "additionalProperties": {"type": "integer"}}, JsonStyle(whitespace="[ \\n]{1,3}"))
    assert takes(made, '{\n  "a" : 1\n}')
    assert takes(made, '{"a":1}')


def test_a_schema_may_be_text():
    assert loaded('{"type": "integer"}') == {"type": "integer"}
    assert loaded("true") is True
    for text in ("{", "3", "[" * 100_000):
        with pytest.raises(GrammarError):
            loaded(text)


@pytest.mark.parametrize("year", [1, 4, 99, 100, 400, 1900, 1999, 2000, 2023, 2024, 2100, 9999])
def test_dates_are_those_of_the_calendar(year):
    made = grammar({"format": "date", "type": "string"})
    for month in range(1, 13):
        for day in range(28, 32):
            text = f"{year:04}-{month:02}-{day:02}"
            assert takes_json(made, text) == _is_date(text), text


def _is_date(text: str) -> bool:
    try:
        return isinstance(date.fromisoformat(text), date)
    except ValueError:
        return False


def test_moments_can_be_read():
    made = grammar({"format": "date-time", "type": "string"})
    for text in ("2024-02-29T23:59:59.123456789Z", "0001-01-01T00:00:00-23:59"):
        assert takes_json(made, text)
        assert datetime.fromisoformat(text)
