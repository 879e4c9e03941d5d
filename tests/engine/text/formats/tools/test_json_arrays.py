"""Calls of Granite and Phi-4-mini, in one array behind a mark."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call, written

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.granite import GRANITE
from quire_engine.text.formats.tools.phi4_mini import PHI4_MINI, PHI4_MINI_TOKENS

ARRAY = '[{"name": "get_weather", "arguments": {"city": "Kyoto"}}'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})
FORMATS = [GRANITE, PHI4_MINI, PHI4_MINI_TOKENS]

EXAMPLES = [
    (GRANITE, Example("a token", f"<|tool_call|>{ARRAY}]", WEATHER)),
    (GRANITE, Example("a space", f"<|tool_call|> {ARRAY}]", WEATHER)),
    (GRANITE, Example("written out", f"<tool_call>{ARRAY}]", WEATHER)),
    (
        GRANITE,
        Example("text around", f"So: <|tool_call|>{ARRAY}]\nDone.", [Content("So:"), *WEATHER, Content("\nDone.")]),
    ),
    (GRANITE, Example("two", f'<|tool_call|>{ARRAY}, {{"name": "now"}}]', [*WEATHER, *call(1, "now")])),
    (GRANITE, Example("cut", f"<|tool_call|>{ARRAY}, ", [*WEATHER, CallBroken(1, "")])),
    (GRANITE, no_call("no array", "<|tool_call|>now()")),
    (
        GRANITE,
        Example(
            "cut in a call",
            '<|tool_call|>[{"name": "now", "arguments": {"a',
            [CallBegan(0, "now"), CallArguments(0, '{"a'), CallBroken(0, "")],
        ),
    ),
    (PHI4_MINI, Example("a word", f"functools{ARRAY}]", WEATHER)),
    (PHI4_MINI, Example("the word alone", "import functools", [Content("import functools")])),
    (PHI4_MINI, Example("tokens", f"<|tool_call|>{ARRAY}]<|/tool_call|>", WEATHER)),
    (PHI4_MINI, Example("white space in the array", f"functools[ {ARRAY[1:]} ]", WEATHER)),
    (PHI4_MINI_TOKENS, Example("tokens", f"<|tool_call|>{ARRAY}]<|/tool_call|>", WEATHER)),
    (PHI4_MINI_TOKENS, Example("no closing token", f"<|tool_call|>{ARRAY}]", WEATHER)),
    (PHI4_MINI_TOKENS, Example("nothing", "functools[]", [])),
]


@pytest.mark.parametrize(("format", "example"), EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(format, example):
    check(example, lambda: format.parser(TOOLS))


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_any_calls_are_read_in_any_pieces(format):
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        begin = rng.choice(format.begins)
        parts = [f'{{"name": {json.dumps(name)}, "arguments": {written(arguments, rng)}}}' for name, arguments in calls]
        return f"\n{begin.removesuffix('[')}[{', '.join(parts)}]{rng.choice(['', format.end])}"

    check_random_answers(write, lambda: format.parser(TOOLS))
