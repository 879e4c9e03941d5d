"""Calls as Hermes and Qwen write them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call, written

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.hermes import HERMES

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Kyoto"}}\n</tool_call>'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

EXAMPLES = [
    Example("no call", "The tag <tool> is {not} one.\n", [Content("The tag <tool> is {not} one.\n")]),
    Example("one call", CALL, WEATHER),
    Example("text before", f"Let me look.\n{CALL}", [Content("Let me look."), *WEATHER]),
    Example("text after", f"{CALL}\nSo.", [*WEATHER, Content("\nSo.")]),
    Example(
        "two calls",
        f'{CALL}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>\n',
        [*WEATHER, *call(1, "now")],
    ),
    Example("no white space", CALL.replace("\n", ""), WEATHER),
    Example("no closing mark", CALL.removesuffix("\n</tool_call>"), WEATHER),
    Example("cut in its closing mark", CALL.removesuffix("all>"), WEATHER),
    Example("text for the closing mark", CALL.replace("</tool_call>", "</tool "), [*WEATHER[:2], CallBroken(0, "")]),
    Example("no arguments", '<tool_call>{"name": "now"}</tool_call>', call(0, "now", "{}")),
    Example("null for arguments", '<tool_call>{"name": "now", "arguments": null}</tool_call>', call(0, "now", "{}")),
    Example(
        "arguments first",
        '<tool_call>{"arguments": {"city": "Kyoto"}, "name": "get_weather"}</tool_call>',
        WEATHER,
    ),
    Example("parameters", CALL.replace("arguments", "parameters"), WEATHER),
    Example("other members", CALL.replace('{"name"', '{"type": "function", "id": 7, "name"'), WEATHER),
    Example(
        "arguments in a string",
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Kyoto\\"}"}</tool_call>',
        WEATHER,
    ),
    Example(
        "as OpenAI writes it",
        CALL.replace('{"name"', '{"type": "function", "function": {"name"').replace("}}", "}}}"),
        WEATHER,
    ),
    Example(
        "a mark in a string",
        '<tool_call>{"name": "search", "arguments": {"query": "</tool_call> <tool_call>"}}</tool_call>',
        call(0, "search", {"query": "</tool_call> <tool_call>"}),
    ),
    Example(
        "cut in its arguments",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ky',
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example("cut in its name", 'So: <tool_call>\n{"name": "get', [Content("So:"), CallBroken(0, "")]),
    Example("cut after the mark", "<tool_call>", [CallBroken(0, "")]),
    Example(
        "the second is cut",
        f'{CALL}<tool_call>{{"name": "now", "arg',
        [*WEATHER, CallBegan(1, "now"), CallBroken(1, "")],
    ),
    Example(
        "prose about a mark",
        "Models write `<tool_call>` before a call.\n\nThen <tool_call> it is.",
        [
            Content("Models write `"),
            CallBroken(0, ""),
            Content("<tool_call>` before a call.\n\nThen <tool_call> it is."),
        ],
    ),
    Example(
        "no call behind one",
        f"{CALL}\nAnd \n<tool_call>: so.",
        [*WEATHER, Content("\nAnd"), CallBroken(1, ""), Content(" \n<tool_call>: so.")],
    ),
    no_call("no JSON", "<tool_call>get_weather(Kyoto)</tool_call>"),
    no_call("no name", '<tool_call>{"arguments": {}}</tool_call>'),
    no_call("a number for a name", '<tool_call>{"name": 1}</tool_call>'),
    Example(
        "a number for arguments",
        '<tool_call>{"name": "now", "arguments": 2001}</tool_call>',
        [CallBegan(0, "now"), CallBroken(0, "")],
    ),
    Example(
        "arguments in a string that are none",
        '<tool_call>{"name": "now", "arguments": "{} {}"}</tool_call>',
        [CallBegan(0, "now"), CallBroken(0, "")],
    ),
    Example("no text for arguments", '<tool_call>{"name": "now", "arguments": ""}</tool_call>', call(0, "now", "{}")),
    Example(
        "half a character in its arguments",
        r'<tool_call>{"name": "now", "arguments": "{\"a\": \"\ud83d\"}"}</tool_call>',
        [CallBegan(0, "now"), CallBroken(0, "")],
    ),
    no_call("half a character in its name", r'<tool_call>{"name": "\ud83d"}</tool_call>'),
    Example(
        "a whole character in its name",
        r'<tool_call>{"name": "\ud83d\ude00", "arguments": "{\"a\": \"\\ud83d\"}"}</tool_call>',
        call(0, "\U0001f600", r'{"a": "\ud83d"}'),
    ),
    no_call("functions in functions", '<tool_call>{"function": ' + '{"function": ' * 600),
    Example(
        "an unclosed object",
        '<tool_call>{"name": "now", "arguments": {}</tool_call>',
        [CallBegan(0, "now"), CallArguments(0, "{}"), CallBroken(0, "")],
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(example):
    check(example, lambda: HERMES.parser(TOOLS))


def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    separator = rng.choice(["", "\n"])
    return "".join(
        f'\n<tool_call>{separator}{{"name": {json.dumps(name)}, "arguments": {written(arguments, rng)}}}'
        f"{separator}</tool_call>"
        for name, arguments in calls
    )


def test_any_calls_are_read_in_any_pieces():
    check_random_answers(write, lambda: HERMES.parser(TOOLS))
