"""Calls as GLM's models write them: what the text of an argument means is what its schema says."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, check_random_answers, no_call
from tests.support.grammars import takes, vocabulary

from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.glm4 import GLM4, GLM47
from quire_engine.text.grammar.notation import GrammarText


def written_call(arguments: dict[str, str], name: str = "get_weather", newline: str = "\n") -> str:
    parts = (
        f"<arg_key>{key}</arg_key>{newline}<arg_value>{text}</arg_value>{newline}" for key, text in arguments.items()
    )
    return f"<tool_call>{name}{newline}{''.join(parts)}</tool_call>"


CALL = written_call({"city": "Kyoto"})
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

EXAMPLES = [
    Example("one call", CALL, WEATHER),
    Example("no newlines", CALL.replace("\n", ""), WEATHER),
    Example("text around", f"So:\n{CALL}\nDone.", [Content("So:"), *WEATHER, Content("\nDone.")]),
    Example("two calls", f"{CALL}\n{written_call({}, 'now')}", [*WEATHER, *call(1, "now")]),
    Example("no arguments", "<tool_call>now</tool_call>", call(0, "now")),
    Example("no tool of ours", written_call({"a": "1"}, "f"), call(0, "f", {"a": "1"})),
    Example("a number", written_call({"days": "3"}), call(0, "get_weather", {"days": 3})),
    Example("true", written_call({"metric": "true"}), call(0, "get_weather", {"metric": True})),
    Example("an object", written_call({"filters": '{"a": [1]}'}, "search"), call(0, "search", {"filters": {"a": [1]}})),
    Example("text that looks like a number", written_call({"city": "12"}), call(0, "get_weather", {"city": "12"})),
    Example("white space is text", written_call({"city": "\n a \n"}), call(0, "get_weather", {"city": "\n a \n"})),
    Example(
        "tags are text", written_call({"city": "<b>a</b></arg>"}), call(0, "get_weather", {"city": "<b>a</b></arg>"})
    ),
    Example("no call", "A <tool> call.", [Content("A <tool> call.")]),
    Example(
        "cut in a value",
        CALL.partition("oto")[0],
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Ky'), CallBroken(0, "")],
    ),
    Example(
        "cut behind a value",
        CALL.removesuffix("</tool_call>"),
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Kyoto"'), CallBroken(0, "")],
    ),
    Example("cut in its name", "<tool_call>get_we", [CallBroken(0, "")]),
    no_call("no name", "<tool_call><arg_key>a</arg_key>"),
    Example(
        "no value",
        "<tool_call>now\n<arg_key>a</arg_key></tool_call>",
        [CallBegan(0, "now"), CallArguments(0, "{"), CallBroken(0, "")],
    ),
    Example(
        "twice the same",
        CALL.replace("</tool_call>", CALL.partition("\n")[2]),
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Kyoto"'), CallBroken(0, "")],
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("form", [GLM4, GLM47], ids=lambda form: form.name)
def test_answers_are_read_however_they_are_cut(form, example):
    check(example, lambda: form.parser(TOOLS))


@pytest.mark.parametrize(("form", "newline"), [(GLM4, "\n"), (GLM47, "")])
def test_any_calls_are_read_in_any_pieces(form, newline):
    def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
        return newline.join(written_call(arguments, name, newline) for name, arguments in calls)

    values = ["Kyoto", "", " \n ", 'a "b" \\ {c} [d]', "日本語 🙂", "a < b </arg_key> <arg_value", "</tool_call>"]
    check_random_answers(write, lambda: form.parser(()), values=values)


@pytest.mark.parametrize(("form", "newline"), [(GLM4, "\n"), (GLM47, "")])
def test_the_grammar_has_calls_as_models_write_them(form, newline):
    notation = GrammarText(vocabulary().tokenizer)
    grammar = notation.whole(form.calls(TOOLS, notation, several=True))
    weather = written_call({"city": "Kyoto, <Japan>", "days": "3"}, newline=newline)
    assert takes(grammar, weather)
    assert takes(grammar, weather + newline + written_call({}, "now", newline))
    assert not takes(grammar, written_call({"days": "3"}, newline=newline))
    assert not takes(grammar, written_call({"city": "Kyoto", "days": "many"}, newline=newline))
    assert not takes(grammar, written_call({"city": "Kyoto", "other": "x"}, newline=newline))
    assert not takes(grammar, written_call({}, "then", newline))
    alone = notation.whole(form.calls(TOOLS, notation, several=False))
    assert not takes(alone, weather + newline + weather)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("<tool_call>{name}\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>", GLM4),
        ("<tool_call>{name}<arg_key>{key}</arg_key><arg_value>{value}</arg_value></tool_call>", GLM47),
    ],
)
def test_the_template_says_whether_there_are_newlines(template, form):
    assert [known for known in (GLM4, GLM47) if known.wrote(template)] == [form]


def test_text_is_given_as_it_comes():
    parser = GLM4.parser(TOOLS)
    pushed = [*parser.push("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Ky"), *parser.push("oto</arg")]
    assert (
        "".join(event.text for event in pushed if isinstance(event, CallArguments))
        == json.dumps({"city": "Kyoto"})[:-2]
    )
