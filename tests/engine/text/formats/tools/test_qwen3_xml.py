"""Calls with each argument between marks: what the text of an argument means is what its schema says."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.text.formats.chunking import Example, call, check, check_random_answers, no_call

from quire_engine.text.formats.base import Tool
from quire_engine.text.formats.events import CallArguments, CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.qwen3_xml import QWEN3_XML, SEED_OSS

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "wind": {"type": "number"},
        "metric": {"type": "boolean"},
        "filters": {"type": "object"},
        "hours": {"type": ["array", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/count"}]},
        "anything": {},
    },
    "$defs": {"count": {"type": "integer"}},
}
TOOLS = (Tool("get_weather", SCHEMA), Tool("now", {}))


def written_call(arguments: dict[str, str], name: str = "get_weather") -> str:
    parts = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parts}</function>\n</tool_call>"


def meant(name: str, argument: str, text: str, value: Any) -> Example:
    return Example(name, written_call({argument: text}), call(0, "get_weather", f'{{"{argument}": {value}}}'))


CALL = written_call({"city": "Kyoto"})
WEATHER = call(0, "get_weather", {"city": "Kyoto"})

EXAMPLES = [
    Example("one call", CALL, WEATHER),
    Example("no white space", CALL.replace("\n", ""), WEATHER),
    Example("no opening mark", CALL.removeprefix("<tool_call>\n"), WEATHER),
    Example("no closing mark", CALL.removesuffix("\n</tool_call>"), WEATHER),
    Example("text around", f"So:\n{CALL}\nDone.", [Content("So:"), *WEATHER, Content("\nDone.")]),
    Example("two calls", f"{CALL}\n{written_call({}, 'now')}", [*WEATHER, *call(1, "now", "{}")]),
    Example("no tool of ours", written_call({"a": "1"}, "f"), call(0, "f", {"a": "1"})),
    Example("no call", "a < b and <function> and <tool>", [Content("a < b and <function> and <tool>")]),
    Example(
        "two arguments",
        written_call({"city": "Kyoto", "days": "3"}),
        call(0, "get_weather", '{"city": "Kyoto", "days": 3}'),
    ),
    meant("text as it is", "city", '"a" \\ <b>\n\n  c ', json.dumps('"a" \\ <b>\n\n  c ')),
    meant("text that looks like a number", "city", "12", '"12"'),
    meant("no text", "city", "", '""'),
    meant("a number", "days", "12", "12"),
    meant("a number without a fraction", "days", "12.0", "12.0"),
    meant("no integer", "days", "12.5", "12.5"),
    meant("an integer for a number", "wind", "-3", "-3"),
    meant("a word for an integer", "days", "three", '"three"'),
    meant("a word for a number", "wind", "strong", '"strong"'),
    meant("true", "metric", "true", "true"),
    meant("Python's true", "metric", "True", "true"),
    meant("an object", "filters", '{"a": [1, null]}', '{"a": [1, null]}'),
    meant("an object that is cut", "filters", '{"a": [1', json.dumps('{"a": [1')),
    meant("marks in an object", "filters", '{"a": "\n</parameter>"}'.replace("\n", ""), '{"a": "</parameter>"}'),
    meant("an object and more", "filters", '{"a": 1} or so', json.dumps('{"a": 1} or so')),
    meant("Python's null", "hours", "None", "null"),
    meant("a list on lines", "hours", "[\n  1\n]", "[\n  1\n]"),
    meant("text or a number: a number", "either", "5", "5"),
    meant("text or a number: text", "either", "5 days", '"5 days"'),
    meant("no type", "anything", "5", '"5"'),
    meant("no such argument", "other", "5", '"5"'),
    Example(
        "cut in text",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nKyo",
        [CallBegan(0, "get_weather"), CallArguments(0, '{"city": "Kyo'), CallBroken(0, "")],
    ),
    Example(
        "cut in a number",
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n1",
        [CallBegan(0, "get_weather"), CallArguments(0, '{"days": '), CallBroken(0, "")],
    ),
    Example("cut in its name", "<tool_call>\n<function=get_we", [CallBroken(0, "")]),
    no_call("no function", "<tool_call>\nnow()\n</tool_call>"),
    no_call("no name", "<tool_call><function=>"),
    Example(
        "twice the same",
        "<function=now><parameter=a>1</parameter><parameter=a>2</parameter></function>",
        [CallBegan(0, "now"), CallArguments(0, '{"a": "1"'), CallBroken(0, "")],
    ),
    Example(
        "another tag",
        "<function=now><city>Kyoto</city></function>",
        [CallBegan(0, "now"), CallArguments(0, "{"), CallBroken(0, "")],
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_answers_are_read_however_they_are_cut(example):
    check(example, lambda: QWEN3_XML.parser(TOOLS))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_seeds_marks_are_others(example):
    def seeds(text: str) -> str:
        return text.replace("<tool_call>", SEED_OSS.begin).replace("</tool_call>", SEED_OSS.end)

    events = [Content(seeds(event.text)) if isinstance(event, Content) else event for event in example.events]
    check(Example(example.name, seeds(example.text), events), lambda: SEED_OSS.parser(TOOLS))


def write(calls: Sequence[tuple[str, Any]], rng: random.Random) -> str:
    return "".join(f"\n{written_call(arguments, name)}" for name, arguments in calls)


def test_any_calls_are_read_in_any_pieces():
    values = ["Kyoto", "", " \n ", 'a "b" \\ {c} [d]', "日本語 🙂", "a < b </p> <parameter", "</function>", "\n\nx\n"]
    check_random_answers(write, lambda: QWEN3_XML.parser(()), values=values)


def test_text_is_given_as_it_comes():
    parser = QWEN3_XML.parser(TOOLS)
    assert parser.push("<tool_call>\n<function=get_weather>\n<parameter=city>\nKy") == [
        CallBegan(0, "get_weather"),
        CallArguments(0, '{"city": "Ky'),
    ]
    assert parser.push("oto\n") == [CallArguments(0, "oto")]
