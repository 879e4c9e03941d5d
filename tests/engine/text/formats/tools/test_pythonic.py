"""Calls as a Python list of calls: told from other lists by their names, with values as Python or JSON writes them."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.text.formats.chunking import TEXTS, TOOLS, Example, call, check, check_random_answers, read
from tests.support.grammars import takes, vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.formats.base import Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, CallEnded, Content
from quire_engine.text.formats.tools.pythonic import LLAMA4_PYTHONIC, PYTHONIC
from quire_engine.text.grammar.notation import GrammarText

CALL = '[get_weather(city="Kyoto")]'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})


def meant(name: str, text: str, value: str) -> Example:
    return Example(name, f"[search(query={text})]", call(0, "search", f'{{"query": {value}}}'))


VALUES = [
    meant("single quotes", "'Kyoto'", '"Kyoto"'),
    meant("quotes in quotes", """'say "no"'""", r'"say \"no\""'),
    meant("three quotes", '"""a "b" c"""', r'"a \"b\" c"'),
    meant("no text", "''", '""'),
    meant("no text in three quotes", '""""""', '""'),
    meant("strings side by side", "'a' \"b\"", '"ab"'),
    meant("escapes", r"'\n\t\\\'\"\x41\u00e9\U0001F600\101\0'", r'"\n\t\\' + "'" + r'\"Aé😀A\u0000"'),
    meant("JSON's escape", r'"a\/b"', '"a/b"'),
    meant("an escape of nothing", r"'\d+\.'", r'"\\d+\\."'),
    meant("halves of a character", r"'\ud83d\ude00'", r'"\ud83d\ude00"'),
    meant("a raw string", r"r'\d\''", r'"\\d\\' + "'\""),
    meant("line breaks", "'a\nb'", r'"a\nb"'),
    meant("a line that goes on", "'a\\\nb'", '"ab"'),
    meant("an integer", "-12", "-12"),
    meant("a signed integer", "+12", "12"),
    meant("digits apart", "1_000", "1000"),
    meant("another base", "0x1F", "31"),
    meant("zeros before", "007", "7"),
    meant("a float", "3.50", "3.50"),
    meant("a float without digits", ".5", "0.5"),
    meant("an exponent", "1e-9", "1e-9"),
    meant("Python's words", "[True, False, None]", "[true, false, null]"),
    meant("JSON's words", "[true, false, null]", "[true, false, null]"),
    meant("a tuple", "(1, 'a',)", '[1, "a"]'),
    meant("an empty list", "[]", "[]"),
    meant("an empty dictionary", "{ }", "{}"),
    meant("a dictionary", "{'a': {'b': [1,2]}, 1: None}", '{"a": {"b": [1, 2]}, "1": null}'),
]
EXAMPLES = [
    Example("one call", CALL, WEATHER),
    Example("white space", '\n[ get_weather ( city = "Kyoto" , ) ] \n', WEATHER),
    Example("two calls", '[get_weather(city="Kyoto"), now()]', [*WEATHER, *call(1, "now")]),
    Example("on lines", '[\n  get_weather(city="Kyoto"),\n  now(),\n]', [*WEATHER, *call(1, "now")]),
    Example(
        "two arguments", '[get_weather(city="Kyoto", days=3)]', call(0, "get_weather", {"city": "Kyoto", "days": 3})
    ),
    Example("brackets in a string", CALL.replace("Kyoto", ")]["), call(0, "get_weather", {"city": ")]["})),
    Example("another function behind", '[now(), then(a="b")]', [*call(0, "now"), *call(1, "then", {"a": "b"})]),
    Example("text behind", f"{CALL}So.", [*WEATHER, Content("So.")]),
    Example("the list is not closed", CALL.removesuffix("]"), WEATHER),
    Example("cut behind a comma", CALL.replace("]", ", "), WEATHER),
    Example("another list", "[1, 2] and [now]", [Content("[1, 2] and [now]")]),
    Example("another function", "[nowhere()]", [Content("[nowhere()]")]),
    Example("no list", "now()", [Content("now()")]),
    Example("text before", f"So: {CALL}", [Content(f"So: {CALL}")]),
    Example("almost", "[now", [Content("[now")]),
    Example("white space alone", " \n", [Content(" \n")]),
    Example(
        "cut in a string",
        '[get_weather(city="Ky',
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example(
        "cut in a number",
        "[get_weather(days=1",
        [CallBegan(0, "get_weather"), CallArguments(0, '{"days": 1'), CallBroken(0, "")],
    ),
    Example("cut in a second name", "[now(), get_we", [*call(0, "now"), CallBroken(1, "")]),
    Example(
        "no name of an argument", '[search("x")]', [CallBegan(0, "search"), CallArguments(0, "{"), CallBroken(0, "")]
    ),
    Example(
        "a name for a value",
        "[search(query=Kyoto)]",
        [CallBegan(0, "search"), CallArguments(0, '{"query": '), CallBroken(0, "")],
    ),
    Example(
        "no finite number",
        "[search(query=1_0e999)]",
        [CallBegan(0, "search"), CallArguments(0, '{"query": '), CallBroken(0, "")],
    ),
    Example(
        "a list for a key",
        "[search(query={[]: 1})]",
        [CallBegan(0, "search"), CallArguments(0, '{"query": {'), CallBroken(0, "")],
    ),
    Example(
        "half an escape",
        r"[search(query='\x4')]",
        [CallBegan(0, "search"), CallArguments(0, '{"query": "'), CallBroken(0, "")],
    ),
    Example(
        "no such character",
        r"[search(query='\U00110000')]",
        [CallBegan(0, "search"), CallArguments(0, '{"query": "'), CallBroken(0, "")],
    ),
    Example("twice the same", "[now(a=1, a=2)]", [CallBegan(0, "now"), CallArguments(0, '{"a": 1'), CallBroken(0, "")]),
    Example("no comma", "[now() now()]", [*call(0, "now"), CallBroken(1, "")]),
]


@pytest.mark.parametrize("example", [*EXAMPLES, *VALUES], ids=str)
@pytest.mark.parametrize("form", [PYTHONIC, LLAMA4_PYTHONIC], ids=lambda form: form.name)
def test_answers_are_read_however_they_are_cut(form, example):
    check(example, lambda: form.parser(TOOLS))


@pytest.mark.parametrize(
    "example",
    [
        Example("both marks", f"<|python_start|>{CALL}<|python_end|>", WEATHER),
        Example("one mark", f"<|python_start|>{CALL}", WEATHER),
        Example("marks around text", "<|python_start|>So.<|python_end|>", [Content("So.")]),
    ],
    ids=str,
)
def test_llamas_marks_are_no_text(example):
    check(example, lambda: LLAMA4_PYTHONIC.parser(TOOLS))


def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    def argument(name: str, value: Any) -> str:
        return f"{name}={rng.choice([repr, json.dumps])(value)}"

    parts = (f"{name}({', '.join(argument(*item) for item in arguments.items())})" for name, arguments in calls)
    return f"[{', '.join(parts)}]"


def test_any_calls_are_read_in_any_pieces():
    check_random_answers(write, lambda: PYTHONIC.parser(TOOLS), text=[""])


@pytest.mark.parametrize("text", [*TEXTS, "[1, 2]", "[]", "[a]", "[[now()]]"])
def test_other_text_is_content(text):
    check(Example("", text, [Content(text)]), lambda: PYTHONIC.parser(TOOLS))


PYTHON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(value=PYTHON)
def test_whatever_python_writes_is_read_as_python_reads_it(value):
    (_, arguments, _) = read(PYTHONIC.parser(TOOLS), [f"[search(query={value!r})]"])
    assert json.loads(arguments.text) == {"query": json.loads(json.dumps(ast.literal_eval(repr(value))))}


NESTED = Tool(
    "plan",
    {
        "type": "object",
        "properties": {
            "where": {"$ref": "#/$defs/place"},
            "why": {"type": "string", "enum": ["work", "rest"]},
            "alone": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["why"],
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
                "additionalProperties": False,
            }
        },
    },
)


@pytest.fixture
def notation() -> GrammarText:
    return GrammarText(vocabulary().tokenizer)


@pytest.mark.parametrize(
    "arguments",
    [
        'why="rest"',
        'where={"x": 1}, why="rest"',
        'why="work", alone=True',
        'why="work", tags=["a\'b", "\\"c\\""]',
        'where={"x": 1}, why="rest", alone=False, tags=[]',
    ],
)
def test_the_grammar_has_arguments_as_their_schema_says_and_the_parser_reads_them(notation, arguments):
    assert takes(notation.whole(PYTHONIC.calls([NESTED], notation, several=False)), f"[plan({arguments})]")
    events = read(PYTHONIC.parser([NESTED]), [f"[plan({arguments})]"])
    assert isinstance(events[-1], CallEnded)


@pytest.mark.parametrize(
    "answer",
    [
        "[plan()]",
        "[plan(alone=True)]",
        '[plan(why="fun")]',
        '[plan(alone=True, why="rest")]',
        '[plan(why="rest", other=1)]',
        '[plan(where={}, why="rest")]',
        '[plan(why="rest", )]',
        'plan(why="rest")',
        "[]",
    ],
)
def test_the_grammar_has_nothing_else(notation, answer):
    assert not takes(notation.whole(PYTHONIC.calls([NESTED], notation, several=True)), answer)


def test_the_grammar_has_several_calls_where_they_are_asked_for(notation):
    grammar = notation.whole(PYTHONIC.calls(TOOLS, notation, several=True))
    assert takes(grammar, f"{CALL[:-1]}, now(), search()]")
    assert not takes(notation.whole(PYTHONIC.calls(TOOLS, notation, several=False)), "[now(), now()]")


def test_a_schema_that_says_nothing_of_arguments_leaves_them_free(notation):
    grammar = notation.whole(PYTHONIC.calls([Tool("f", {"type": "object"})], notation, several=False))
    for answer in ("[f()]", "[f(a=1)]", '[f(a_1={"b": [null]}, c="d")]'):
        assert takes(grammar, answer)
    assert not takes(grammar, "[f(1)]")
    closed = Tool("f", {"type": "object", "additionalProperties": False})
    assert not takes(notation.whole(PYTHONIC.calls([closed], notation, several=False)), "[f(a=1)]")
    numbers = Tool("f", {"type": "object", "additionalProperties": {"type": "integer"}})
    grammar = notation.whole(PYTHONIC.calls([numbers], notation, several=False))
    assert takes(grammar, "[f(a=1, b=2)]")
    assert not takes(grammar, '[f(a="1")]')


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"anyOf": [{"required": ["a"]}]}, "/anyOf"),
        ({"minProperties": 1}, "/minProperties"),
        ({"properties": {"a": {"items": {"$ref": "#"}}}}, r"/properties/a/\$ref"),
        ({"properties": {"a b": {}}}, "'a b'"),
    ],
)
def test_what_cannot_be_held_is_refused_with_its_place(notation, parameters, pointer):
    with pytest.raises(GrammarError, match=f"{pointer}.*the parameters of f"):
        PYTHONIC.calls([Tool("f", parameters)], notation, several=False)
