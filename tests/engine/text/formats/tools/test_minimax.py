"""Calls as MiniMax M2 writes them: what the text of an argument means is what its schema says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.minimax import BLOCK, BLOCK_END, MINIMAX
from quire_engine.text.grammar.notation import GrammarText


def invocation(arguments: dict[str, str], name: str = "get_weather") -> str:
    parts = (f'<parameter name="{key}">{text}</parameter>\n' for key, text in arguments.items())
    return f'<invoke name="{name}">\n{"".join(parts)}</invoke>\n'


CALL = invocation({"city": "Kyoto"})
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

EXAMPLES = [
    Example("one call", f"{BLOCK}\n{CALL}{BLOCK_END}", WEATHER),
    Example("no newlines", f"{BLOCK}{CALL}{BLOCK_END}".replace("\n", ""), WEATHER),
    Example("text around", f"So:\n\n{BLOCK}\n{CALL}{BLOCK_END}\nDone.", [Content("So:"), *WEATHER, Content("\nDone.")]),
    Example("two calls", f"{BLOCK}\n{CALL}{invocation({}, 'now')}{BLOCK_END}", [*WEATHER, *call(1, "now")]),
    Example("the block is not closed", f"{BLOCK}\n{CALL}", WEATHER),
    Example("other quotes", f"{BLOCK}\n{CALL}".replace('"', "'"), WEATHER),
    Example("no quotes", f"{BLOCK}\n{CALL}".replace('"', ""), WEATHER),
    Example("no tool of ours", BLOCK + invocation({"a": "1"}, "f"), call(0, "f", {"a": "1"})),
    Example("a number", BLOCK + invocation({"days": "3"}), call(0, "get_weather", {"days": 3})),
    Example(
        "a list", BLOCK + invocation({"filters": '{"a": [1]}'}, "search"), call(0, "search", {"filters": {"a": [1]}})
    ),
    Example(
        "white space is text", BLOCK + invocation({"city": "\n a \n"}), call(0, "get_weather", {"city": "\n a \n"})
    ),
    Example(
        "tags are text", BLOCK + invocation({"city": "<b>a</b></p"}), call(0, "get_weather", {"city": "<b>a</b></p"})
    ),
    Example("no call", "A <minimax> call.", [Content("A <minimax> call.")]),
    Example("an empty block", BLOCK + BLOCK_END, []),
    Example(
        "cut in a value",
        BLOCK + CALL.partition("oto")[0],
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example(
        "cut behind a value",
        BLOCK + CALL.removesuffix("</invoke>\n"),
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Kyoto"'), CallBroken(0, "")],
    ),
    Example("cut in its name", f'{BLOCK}<invoke name="get_we', [CallBroken(0, "")]),
    no_call("no name", f'{BLOCK}<invoke name="">'),
    Example("cut in the block's end", f"{BLOCK}\n{CALL}{BLOCK_END}"[:-3], WEATHER),
    Example("cut behind the block's mark", f"{BLOCK}\n", [CallBroken(0, "")]),
    Example("cut behind a second one's", f"{BLOCK}\n{CALL}{BLOCK_END}{BLOCK}", [*WEATHER, CallBroken(1, "")]),
    no_call("text in place of a call", f"{BLOCK}now(){BLOCK_END}"),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(example):
    check(example, lambda: MINIMAX.parser(TOOLS))


def test_any_calls_are_read_in_any_pieces():
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        return f"{BLOCK}\n{''.join(invocation(arguments, name) for name, arguments in calls)}{BLOCK_END}"

    values = ["Kyoto", "", " \n ", 'a "b" \\ {c} [d]', "日本語 🙂", "a < b </param <parameter", "</invoke>"]
    check_random_answers(write, lambda: MINIMAX.parser(()), values=values)


def test_the_grammar_has_calls_as_models_write_them():
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(MINIMAX.calls(TOOLS, notation, several=True))
    weather = invocation({"city": "Kyoto, <Japan>", "days": "3"})
    assert takes(grammar, f"{BLOCK}\n{weather}{BLOCK_END}")
    assert takes(grammar, f"{BLOCK}\n{weather}{invocation({}, 'now')}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}\n{invocation({'days': '3'})}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}\n{invocation({'city': 'Kyoto', 'days': 'many'})}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}\n{invocation({}, 'then')}{BLOCK_END}")
    assert not takes(grammar, f"{BLOCK}\n{BLOCK_END}")
    alone = notation.whole(MINIMAX.calls(TOOLS, notation, several=False))
    assert not takes(alone, f"{BLOCK}\n{weather}{weather}{BLOCK_END}")
