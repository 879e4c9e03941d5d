"""Calls that are the whole answer: told from any other JSON by the names of the tools."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, read, written

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.json_calls import JSON_CALLS
from quire_engine.text.formats.tools.llama3_json import LLAMA3_JSON

FORMATS = [LLAMA3_JSON, JSON_CALLS]
CALL = '{"name": "get_weather", "parameters": {"city": "Kyoto"}}'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})
NOW = call(1, "now", "{}")


def as_it_is(name: str, text: str) -> Example:
    return Example(name, text, [Content(text)])


EXAMPLES = [
    Example("one call", CALL, WEATHER),
    Example("white space around", f"\n\n{CALL}\n", WEATHER),
    Example("its type first", CALL.replace('{"name"', '{"type": "function", "name"'), WEATHER),
    Example("arguments first", '{"parameters": {"city": "Kyoto"}, "name": "get_weather"}', WEATHER),
    Example("function for name", CALL.replace('"name"', '"function"'), WEATHER),
    Example("semicolons", f'{CALL}; {{"name": "now"}}', [*WEATHER, *NOW]),
    Example("lines", f'{CALL}\n{{"name": "now"}}', [*WEATHER, *NOW]),
    Example("an array", f'[{CALL}, {{"name": "now"}}]', [*WEATHER, *NOW]),
    Example("an array with white space", f"[ {CALL} ]\n", WEATHER),
    Example("an array that is cut", f"[{CALL}", WEATHER),
    Example("text after", f"{CALL} I hope so.", [*WEATHER, Content(" I hope so.")]),
    Example("other JSON after", f"{CALL}; [1]", [*WEATHER, Content("; [1]")]),
    as_it_is("text", "The answer is {x}."),
    as_it_is("JSON that names no tool", '\n{"name": "Ada", "age": 36}\n'),
    as_it_is("JSON without a name", '{"city": "Kyoto"}'),
    as_it_is("an array of other things", '[1, {"name": "get_weather"}]'),
    as_it_is("no JSON", "{get_weather}"),
    as_it_is("cut before its name", '{"name": "get_we'),
    as_it_is("a call that is not at the beginning", f"So: {CALL}"),
    Example(
        "cut in its arguments",
        '{"name": "search", "parameters": {"query": "x',
        [CallBegan(0, "search"), CallArguments(0, '{"query": "x'), CallBroken(0, "")],
    ),
    Example(
        "two objects for one",
        '{"name": "now", "parameters": {}, "parameters": {}}',
        [CallBegan(0, "now"), CallArguments(0, "{}"), CallBroken(0, "")],
    ),
]

MARKED = [
    Example("one call", f"<|python_tag|>{CALL}", WEATHER),
    Example("text before", f"So: <|python_tag|> {CALL}", [Content("So:"), *WEATHER]),
    Example("two calls", f'<|python_tag|>{CALL}; {{"name": "now"}}', [*WEATHER, *NOW]),
    Example("two marks", f'<|python_tag|>{CALL}<|python_tag|>{{"name": "now"}}', [*WEATHER, *NOW]),
    Example("a function that is not offered", '<|python_tag|>{"name": "f"}', call(0, "f", "{}")),
    Example("an array", f"<|python_tag|>[{CALL}]", WEATHER),
    Example("code", "<|python_tag|>print(1)", [Content("print(1)")]),
    Example("code after text", "So:\n<|python_tag|>\nprint(1)", [Content("So:\nprint(1)")]),
    Example("nothing behind the mark", "<|python_tag|> ", [CallBroken(0, "")]),
    Example("cut", '<|python_tag|>{"name": "f', [CallBroken(0, "")]),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_answers_are_read_however_they_are_cut(format, example):
    check(example, lambda: format.parser(TOOLS))


@pytest.mark.parametrize("example", MARKED, ids=str)
def test_json_behind_llamas_mark_is_a_call(example):
    check(example, lambda: LLAMA3_JSON.parser(TOOLS))


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_any_calls_are_read_in_any_pieces(format):
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        parts = [
            f'{{"name": {json.dumps(name)}, "parameters": {written(arguments, rng)}}}' for name, arguments in calls
        ]
        return rng.choice([f"[{', '.join(parts)}]", "; ".join(parts), "\n".join(parts)])

    check_random_answers(write, lambda: format.parser(TOOLS), text=[""])


def test_text_that_is_no_call_is_given_as_soon_as_that_is_certain():
    parser = JSON_CALLS.parser(TOOLS)
    assert parser.push('{"name": "Ada') == []
    assert parser.push('", "') == [Content('{"name": "Ada", "')]


def test_an_object_that_begins_as_no_call_does_is_given_from_its_first_key_on():
    parser = LLAMA3_JSON.parser(TOOLS)
    assert parser.push('{"title": "A') == [Content('{"title": "A')]
    assert parser.push(" long") == [Content(" long")]
    assert LLAMA3_JSON.parser(TOOLS).push('{"id": "A') == []


def test_an_answer_that_is_no_call_at_all_is_not_held_back():
    assert read(LLAMA3_JSON.parser(TOOLS), ["T"]) == [Content("T")]
    assert LLAMA3_JSON.parser(TOOLS).push("The") == [Content("The")]
