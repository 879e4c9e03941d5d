"""A stream's chunks add up to the answer at once, in all that a choice says: whatever is asked, in any format."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.actor import write_actor
from tests.support.served import Api, Served, served

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("get_weather", "get_time")]
HERMES = {"tool_call_parser": "hermes", "reasoning_parser": "think_tags"}
LAX = {**HERMES, "tool_strictness": False}
HARMONY = {"tool_call_parser": "harmony", "reasoning_parser": "harmony"}

THOUGHT = "<think>\nHm, ünïcödé 🙂.\n</think>\n\n"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Kyoto"}}\n</tool_call>'
NO_CALL = "Models write <tool_call> before one."
ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>Yes."
PREAMBLE = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
TO_WEATHER = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Kyoto"}<|call|>'

NAMED = {"type": "function", "function": {"name": "get_weather"}}

CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "content": (HERMES, "Yes.", {}),
    "reasoning and content": (HERMES, f"{THOUGHT}Yes.", {}),
    "reasoning that is not wanted": (HERMES, f"{THOUGHT}Yes.", {"include_reasoning": False}),
    "a call": (HERMES, f"{THOUGHT}I look.\n{CALL}", {"tools": TOOLS}),
    "several calls": (HERMES, f"{CALL}\n{CALL}", {"tools": TOOLS}),
    "one call of several": (HERMES, f"{CALL}\n{CALL}", {"tools": TOOLS, "parallel_tool_calls": False}),
    "several choices": (HERMES, f"{THOUGHT}{CALL}", {"tools": TOOLS, "n": 3}),
    "a call cut by a stop string": (HERMES, CALL, {"tools": TOOLS, "stop": ["yot"]}),
    "a call behind a stop string": (HERMES, f"One. Two. {CALL}", {"tools": TOOLS, "stop": [" Two"]}),
    "a call cut by its length": (LAX, CALL, {"tools": TOOLS, "max_tokens": 60}),
    "a call that is none": (LAX, NO_CALL, {"tools": TOOLS}),
    "a named call": (
        HERMES,
        CALL,
        {"tools": TOOLS, "tool_choice": NAMED},
    ),
    "a form": (HERMES, f'{THOUGHT}{{"city": "Kyoto"}}', {"response_format": {"type": "json_object"}}),
    "a form that begins with a newline": (HERMES, f"{THOUGHT}\n- x", {"structured_outputs": {"regex": "\n+- x"}}),
    "harmony": (HARMONY, ANALYSIS + FINAL, {}),
    "harmony's call": (HARMONY, ANALYSIS + PREAMBLE + TO_WEATHER, {"tools": TOOLS}),
    "harmony's call that may not be": (HARMONY, ANALYSIS + TO_WEATHER, {"tools": TOOLS, "tool_choice": "none"}),
    "harmony's required call": (HARMONY, ANALYSIS + TO_WEATHER, {"tools": TOOLS, "tool_choice": "required"}),
    "harmony's form": (
        HARMONY,
        f'{ANALYSIS}<|channel|>final<|message|>{{"city": "<|end|>"}}',
        {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}},
    ),
}
TELLING: dict[str, dict[str, Any]] = {
    "plainly": {},
    "token by token": {"logprobs": True, "top_logprobs": 2, "return_token_ids": True},
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    actor = write_actor(tmp_path_factory.mktemp("actor"), end="<|over|>")  # <|end|> is one of harmony's marks
    sys.path.insert(0, str(actor.package))
    importlib.invalidate_caches()
    try:
        with served(model=str(actor.model), logits_processors=("actor.act",)) as each:
            yield each
    finally:
        sys.path.remove(str(actor.package))


def body(line: str, asked: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Please. [[{line}]]"}]
    return {"messages": messages, "temperature": 0, "max_tokens": 400, **asked}


def whole(api: Api, asked: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """What each choice says, and the usage."""
    answer = api.post(CHAT, **asked)
    choices = [
        {
            "content": choice["message"]["content"] or "",
            "reasoning": choice["message"].get("reasoning") or "",
            "calls": [called["function"] for called in choice["message"].get("tool_calls") or ()],
            "logprobs": (choice["logprobs"] or {}).get("content") or [],
            "token_ids": choice.get("token_ids") or [],
            **{name: choice.get(name) for name in ("finish_reason", "stop_reason", "error")},
        }
        for choice in answer["choices"]
    ]
    return choices, answer["usage"]


def streamed(stream: Callable[..., list[dict[str, Any]]], asked: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The same, put together by somebody who knows nothing but OpenAI's rules."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for event in stream(CHAT, **asked, stream_options={"include_usage": True}):
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            told = choices.setdefault(
                choice["index"],
                {"content": "", "reasoning": "", "calls": [], "logprobs": [], "token_ids": []}
                | dict.fromkeys(("finish_reason", "stop_reason", "error")),
            )
            delta = choice["delta"]
            told["content"] += delta.get("content") or ""
            told["reasoning"] += delta.get("reasoning") or ""
            for called in delta.get("tool_calls") or ():
                if called["index"] == len(told["calls"]):
                    told["calls"].append({"name": called["function"]["name"], "arguments": ""})
                told["calls"][called["index"]]["arguments"] += called["function"].get("arguments") or ""
            told["logprobs"] += (choice.get("logprobs") or {}).get("content") or []
            told["token_ids"] += choice.get("token_ids") or []
            told |= {name: choice[name] for name in ("finish_reason", "stop_reason", "error") if choice.get(name)}
    return [choices[index] for index in sorted(choices)], usage


@pytest.mark.parametrize("telling", TELLING.values(), ids=TELLING)
@pytest.mark.parametrize(("settings", "line", "asked"), CASES.values(), ids=CASES)
def test_a_stream_adds_up_to_the_answer_at_once(
    engine: Served, settings: dict[str, Any], line: str, asked: dict[str, Any], telling: dict[str, Any]
) -> None:
    api = engine.api(**settings)
    at_once, usage = whole(api, body(line, asked | telling))
    assert streamed(api.stream, body(line, asked | telling)) == (at_once, usage)
    assert streamed(api.stream_by_connection, body(line, asked | telling)) == (at_once, usage)
    if telling:
        tokens = sum(len(choice["token_ids"]) for choice in at_once)
        assert tokens == usage["completion_tokens"]
        assert [len(choice["logprobs"]) for choice in at_once] == [len(choice["token_ids"]) for choice in at_once]


def said(engine: Served, name: str) -> dict[str, Any]:
    settings, line, asked = CASES[name]
    (choice,), _ = whole(engine.api(**settings), body(line, asked))
    return choice


def test_harmony_is_served(engine: Served) -> None:
    plain, call = said(engine, "harmony"), said(engine, "harmony's call")
    assert (plain["reasoning"], plain["content"], plain["finish_reason"]) == ("Hm.", "Yes.", "stop")
    assert (call["reasoning"], call["content"], call["finish_reason"]) == ("Hm.", "I will look.", "tool_calls")
    assert call["calls"] == [{"name": "get_weather", "arguments": '{"city": "Kyoto"}'}]
    assert said(engine, "harmony's required call")["calls"] == call["calls"]
    assert said(engine, "harmony's call that may not be")["content"] == '{"city": "Kyoto"}'
    assert said(engine, "harmony's form")["content"] == '{"city": "<|end|>"}'


def test_a_stop_string_within_a_call_breaks_it_and_says_so(engine: Served) -> None:
    choice = said(engine, "a call cut by a stop string")
    assert (choice["finish_reason"], choice["stop_reason"]) == ("error", "yot")
    assert choice["error"]["param"] == "tool_calls.0"
    assert re.search(r"get_weather .* leave it out", choice["error"]["message"])
    assert choice["calls"] == [{"name": "get_weather", "arguments": '{"city": "K'}]


def test_what_is_no_call_is_told_and_is_text(engine: Served) -> None:
    choice = said(engine, "a call that is none")
    assert (choice["content"], choice["finish_reason"], choice["calls"]) == (NO_CALL, "error", [])
    assert choice["error"]["param"] == "tool_calls.0"


def test_a_form_may_begin_with_newlines(engine: Served) -> None:
    assert said(engine, "a form that begins with a newline")["content"] == "\n\n\n- x"
