"""Calls as Kimi K2 writes them: each under its own id, which is passed on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call, written
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.kimi_k2 import CALL_END, KIMI_K2, SECTION, SECTION_END
from quire_engine.text.grammar.notation import GrammarText


def one(call_id: str, arguments: str) -> str:
    return f"<|tool_call_begin|>{call_id}<|tool_call_argument_begin|>{arguments}{CALL_END}"


CALL = one("functions.get_weather:0", '{"city": "Kyoto"}')
WEATHER = call(0, "get_weather", {"city": "Kyoto"}, "functions.get_weather:0")

EXAMPLES = [
    Example("one call", f"{SECTION}{CALL}{SECTION_END}", WEATHER),
    Example("text before", f"So: {SECTION}{CALL}{SECTION_END}", [Content("So:"), *WEATHER]),
    Example("text after", f"{SECTION}{CALL}{SECTION_END}So.", [*WEATHER, Content("So.")]),
    Example(
        "two calls",
        f"{SECTION}{CALL}{one('functions.now:12', '{}')}{SECTION_END}",
        [*WEATHER, *call(1, "now", {}, "functions.now:12")],
    ),
    Example(
        "one id twice", f"{SECTION}{CALL}{CALL}{SECTION_END}", [*WEATHER, *call(1, "get_weather", {"city": "Kyoto"})]
    ),
    Example("white space", f"{SECTION}\n{CALL}\n{SECTION_END}\n", WEATHER),
    Example("no prefix", f"{SECTION}{one('now:3', '{}')}", call(0, "now", {}, "now:3")),
    Example("no number", f"{SECTION}{one('functions.now', '{}')}", call(0, "now", {})),
    Example("no arguments", f"{SECTION}{one('now:0', '')}", call(0, "now", {}, "now:0")),
    Example("a name with a dot", f"{SECTION}{one('functions.a.b:0', '{}')}", call(0, "a.b", {}, "functions.a.b:0")),
    Example(
        "the call is not closed", f"{SECTION}{CALL.removesuffix(CALL_END)}{SECTION_END}So.", [*WEATHER, Content("So.")]
    ),
    Example("nothing is closed", f"{SECTION}{CALL.removesuffix(CALL_END)}", WEATHER),
    Example(
        "a mark in a string",
        SECTION + CALL.replace("Kyoto", CALL_END),
        call(0, "get_weather", {"city": CALL_END}, "functions.get_weather:0"),
    ),
    Example("no call", "A <|tool_call|>.", [Content("A <|tool_call|>.")]),
    Example("an empty section", f"{SECTION}{SECTION_END}", []),
    Example(
        "cut in its arguments",
        SECTION + CALL.partition("oto")[0],
        [WEATHER[0], CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example("cut in its id", SECTION + CALL.partition("_weather")[0], [CallBroken(0, "")]),
    no_call("no id", f"{SECTION}{one('', '{}')}"),
    Example("no object", f"{SECTION}{one('now', '[]')}", [CallBegan(0, "now"), CallBroken(0, "")]),
    Example("text behind the arguments", f"{SECTION}{one('now', '{} So')}", [*call(0, "now")[:2], CallBroken(0, "")]),
    Example("cut in the call's end", (SECTION + CALL)[:-3], WEATHER),
    Example("cut in the section's end", (SECTION + CALL + SECTION_END)[:-3], WEATHER),
    Example("cut behind the section's mark", SECTION, [CallBroken(0, "")]),
    Example("cut behind a second one's", f"{SECTION}{CALL}{SECTION_END}{SECTION}", [*WEATHER, CallBroken(1, "")]),
    no_call("text in place of a call", f"{SECTION}So.{SECTION_END}"),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(example):
    check(example, lambda: KIMI_K2.parser(TOOLS))


def test_any_calls_are_read_in_any_pieces():
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        parts = [
            one(f"functions.{name}:{place}", written(arguments, rng)) for place, (name, arguments) in enumerate(calls)
        ]
        return f"{SECTION}{''.join(parts)}{SECTION_END}"

    check_random_answers(write, lambda: KIMI_K2.parser(TOOLS))


def test_the_grammar_has_calls_as_models_write_them():
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(KIMI_K2.calls(TOOLS, notation, several=True))
    assert takes(grammar, f"{SECTION}{CALL}{SECTION_END}")
    assert takes(grammar, f"{SECTION}{CALL}{one('functions.now:1', '{}')}{SECTION_END}")
    assert not takes(grammar, f"{SECTION}{CALL.replace('weather:0', 'weather')}{SECTION_END}")
    assert not takes(grammar, f"{SECTION}{one('functions.then:0', '{}')}{SECTION_END}")
    assert not takes(grammar, f"{SECTION}{one('functions.get_weather:0', '{}')}{SECTION_END}")
    alone = notation.whole(KIMI_K2.calls(TOOLS, notation, several=False))
    assert not takes(alone, f"{SECTION}{CALL}{CALL}{SECTION_END}")
