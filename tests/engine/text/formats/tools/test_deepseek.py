"""Calls as DeepSeek's models write them: in fences and on lines, as V3, or between marks alone, as V3.1."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call, written
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.deepseek import BLOCK, BLOCK_END, CALL, CALL_END, DEEPSEEK_V3, DEEPSEEK_V31
from quire_engine.text.grammar.notation import GrammarText


def fenced(name: str, arguments: str) -> str:
    return f"{CALL}function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```{CALL_END}"


def plain(name: str, arguments: str) -> str:
    return f"{CALL}{name}<｜tool▁sep｜>{arguments}{CALL_END}"


KINDS = [(DEEPSEEK_V3, fenced, "\n"), (DEEPSEEK_V31, plain, "")]
CITY = '{"city": "Kyoto"}'
WEATHER = call(0, "get_weather", {"city": "Kyoto"})


def examples(one, between) -> list[Example]:
    weather = one("get_weather", CITY)
    return [
        Example("one call", f"{BLOCK}{weather}{BLOCK_END}", WEATHER),
        Example("text before", f"So: {BLOCK}{weather}{BLOCK_END}", [Content("So:"), *WEATHER]),
        Example("text after", f"{BLOCK}{weather}{BLOCK_END}So.", [*WEATHER, Content("So.")]),
        Example("two calls", f"{BLOCK}{weather}{between}{one('now', '{}')}{BLOCK_END}", [*WEATHER, *call(1, "now")]),
        Example("white space", f"{BLOCK}\n{weather}\n{BLOCK_END}\n", WEATHER),
        Example("two blocks", f"{BLOCK}{weather}{BLOCK_END}\n" * 2, [*WEATHER, *call(1, "get_weather", CITY)]),
        Example("the block is not closed", f"{BLOCK}{weather}", WEATHER),
        Example("the call is not closed", f"{BLOCK}{weather.removesuffix(CALL_END)}", WEATHER),
        Example(
            "a mark in a string", BLOCK + weather.replace("Kyoto", CALL_END), call(0, "get_weather", {"city": CALL_END})
        ),
        Example("fences in a string", BLOCK + weather.replace("Kyoto", "```"), call(0, "get_weather", {"city": "```"})),
        Example("no call", "A <｜tool｜>.", [Content("A <｜tool｜>.")]),
        Example("no arguments", BLOCK + one("now", "null"), call(0, "now", "{}")),
        Example(
            "cut in its arguments",
            BLOCK + weather.partition("oto")[0],
            [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
        ),
        Example("cut in its name", BLOCK + weather.partition("_weather")[0], [CallBroken(0, "")]),
        no_call("no name", BLOCK + one("", CITY)),
        Example("no object", BLOCK + one("now", "[]"), [CallBegan(0, "now"), CallBroken(0, "")]),
        Example(
            "text behind the arguments",
            BLOCK + one("get_weather", f"{CITY} So."),
            [*WEATHER[:2], CallBroken(0, "")],
        ),
        Example("cut in the call's end", (BLOCK + weather)[:-3], WEATHER),
        Example("cut in the block's end", (BLOCK + weather + BLOCK_END)[:-3], WEATHER),
        Example("an empty block", BLOCK + BLOCK_END, []),
        Example("cut behind the block's mark", BLOCK, [CallBroken(0, "")]),
        Example("cut behind a second one's", f"{BLOCK}{weather}{BLOCK_END}{BLOCK}", [*WEATHER, CallBroken(1, "")]),
        no_call("text in place of a call", f"{BLOCK}So.{BLOCK_END}"),
    ]


@pytest.mark.parametrize(
    ("form", "example"),
    [(form, example) for form, one, between in KINDS for example in examples(one, between)],
    ids=str,
)
def test_answers_are_read_however_they_are_cut(form, example):
    check(example, lambda: form.parser(TOOLS))


def test_fences_may_be_left_out():
    check(
        Example("", f"{BLOCK}{CALL}function<｜tool▁sep｜>get_weather\n{CITY}{CALL_END}", WEATHER),
        lambda: DEEPSEEK_V3.parser(TOOLS),
    )


@pytest.mark.parametrize(("form", "one", "between"), KINDS)
def test_any_calls_are_read_in_any_pieces(form, one, between):
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        return f"{BLOCK}{between.join(one(name, written(arguments, rng)) for name, arguments in calls)}{BLOCK_END}"

    check_random_answers(write, lambda: form.parser(TOOLS))


@pytest.mark.parametrize(("form", "one", "between"), KINDS)
def test_the_grammar_has_calls_as_models_write_them(form, one, between):
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(form.calls(TOOLS, notation, several=True))
    assert takes(grammar, f"{BLOCK}{one('get_weather', CITY)}{BLOCK_END}")
    assert takes(grammar, f"{BLOCK}{one('get_weather', CITY)}{between}{one('now', '{}')}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}{one('get_weather', '{}')}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}{one('then', '{}')}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}{BLOCK_END}")
    alone = notation.whole(form.calls(TOOLS, notation, several=False))
    assert takes(alone, f"{BLOCK}{one('now', '{}')}{BLOCK_END}")
    assert not takes(alone, f"{BLOCK}{one('now', '{}')}{between}{one('now', '{}')}{BLOCK_END}")
