"""Calls as InternLM writes them: the plugin among its actions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, written

from quire_engine.text.formats.events import CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.internlm import INTERNLM

CALL = '<|action_start|><|plugin|>\n{"name": "get_weather", "parameters": {"city": "Kyoto"}}<|action_end|>'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

EXAMPLES = [
    Example("one call", CALL, WEATHER),
    Example("text around", f"Let me look.{CALL}\nSo.", [Content("Let me look."), *WEATHER, Content("\nSo.")]),
    Example("arguments", CALL.replace("parameters", "arguments"), WEATHER),
    Example("white space", CALL.replace("}}<", "}}\n<"), WEATHER),
    Example("another action", "<|action_start|><|interpreter|>", [Content("<|action_start|><|interpreter|>")]),
    Example("cut", '<|action_start|><|plugin|>\n{"name": "now", "par', [CallBegan(0, "now"), CallBroken(0, "")]),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(example):
    check(example, lambda: INTERNLM.parser(TOOLS))


def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    objects = [f'{{"name": {json.dumps(name)}, "parameters": {written(arguments, rng)}}}' for name, arguments in calls]
    return "".join(f"<|action_start|><|plugin|>\n{each}<|action_end|>" for each in objects)


def test_any_calls_are_read_in_any_pieces():
    check_random_answers(write, lambda: INTERNLM.parser(TOOLS))
