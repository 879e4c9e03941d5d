"""Calls as Mistral's models write them, with and without [ARGS]; their ids are what their templates take."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call, read, written

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.mistral import MISTRAL, MISTRAL_ARGS

ID = "abcDEF123"
WEATHER = call(0, "get_weather", {"city": "Kyoto"}, ID)
ARRAY = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Kyoto"}}'

EXAMPLES = [
    Example("no call", "Use [brackets] and [TOOLS].", [Content("Use [brackets] and [TOOLS].")]),
    Example("an array", f"{ARRAY}]", WEATHER),
    Example("an array without white space", f"{ARRAY}]".replace("] [", "]["), WEATHER),
    Example("two in an array", f'{ARRAY}, {{"name": "now"}}]', [*WEATHER, *call(1, "now", {}, ID)]),
    Example("ids as in the template", f'{ARRAY.removesuffix("}")}, "id": "123456789"}}]', WEATHER),
    Example("one alone", f"{ARRAY}".replace("[{", "{"), WEATHER),
    Example("an empty array", "[TOOL_CALLS] []", []),
    Example("named", '[TOOL_CALLS]get_weather[ARGS]{"city": "Kyoto"}', WEATHER),
    Example("named without [ARGS]", '[TOOL_CALLS]get_weather{"city": "Kyoto"}', WEATHER),
    Example(
        "with an id",
        '[TOOL_CALLS]get_weather[CALL_ID]xyz[ARGS]{"city": "Kyoto"}',
        call(0, "get_weather", {"city": "Kyoto"}, "xyz"),
    ),
    Example(
        "two named, with text",
        'So:\n[TOOL_CALLS]get_weather[ARGS]{"city": "Kyoto"}[TOOL_CALLS]now[ARGS]{}',
        [Content("So:"), *WEATHER, *call(1, "now", "{}", ID)],
    ),
    Example(
        "cut",
        '[TOOL_CALLS]now[ARGS]{"a": ["',
        [CallBegan(0, "now", ID), CallArguments(0, '{"a": ["'), CallBroken(0, "")],
    ),
    Example("the array is cut", f"{ARRAY}, ", [*WEATHER, CallBroken(1, "")]),
    no_call("no arguments", "[TOOL_CALLS]now and more"),
    no_call("no name", "[TOOL_CALLS](now)"),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("format", [MISTRAL, MISTRAL_ARGS], ids=lambda format: format.name)
def test_answers_are_read_however_they_are_cut(format, example):
    check(example, lambda: replace(format, new_id=lambda: ID).parser(TOOLS))


def write_array(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    parts = [f'{{"name": {json.dumps(name)}, "arguments": {written(arguments, rng)}}}' for name, arguments in calls]
    return f"[TOOL_CALLS]{rng.choice(['', ' '])}[{', '.join(parts)}]"


def write_named(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{written(arguments, rng)}" for name, arguments in calls)


@pytest.mark.parametrize("write", [write_array, write_named])
def test_any_calls_are_read_in_any_pieces(write):
    check_random_answers(write, lambda: replace(MISTRAL, new_id=lambda: ID).parser(TOOLS))


def test_ids_are_nine_letters_and_digits_and_each_is_another():
    events = read(
        MISTRAL.parser(TOOLS), ['[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS][{"name": "now"}]']
    )
    ids = [event.id or "" for event in events if isinstance(event, CallBegan)]
    assert len({*ids}) == 3
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", id) for id in ids)
