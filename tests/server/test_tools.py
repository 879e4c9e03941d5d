"""Tools, reasoning and forms of answers over HTTP, on an engine whose model says what it is told to."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from tests.support.actor import write_actor
from tests.support.scraped import of
from tests.support.served import Api, Served, served

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/inference/v1/generate"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Kyoto"}}\n</tool_call>'
FORM = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    actor = write_actor(tmp_path_factory.mktemp("actor"))
    sys.path.insert(0, str(actor.package))
    importlib.invalidate_caches()
    try:
        with served(model=str(actor.model), logits_processors=("actor.act",)) as each:
            yield each
    finally:
        sys.path.remove(str(actor.package))


@pytest.fixture(scope="module")
def api(engine: Served) -> Api:
    return engine.api(reasoning_parser="think_tags")


def says(*lines: str) -> dict[str, Any]:
    content = "Please." + "".join(f" [[{line}]]" for line in lines)
    return {"messages": [{"role": "user", "content": content}], "temperature": 0}


def choice(api: Api, *lines: str, **asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = api.post(CHAT, **says(*lines), **asked)["choices"][0]
    return answer


def calls(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(api: Api) -> None:
    events = api.stream(CHAT, **says(f"<think>\nHm.\n</think>\n\nWell. {CALL}"), tools=[WEATHER])
    first, *rest = [event["choices"][0] for event in events]
    assert first["delta"]["role"] == "assistant"
    names = ["reasoning", "content", "tool_calls"]
    kinds = [name for each in rest for name in names if each["delta"].get(name)]
    assert kinds == sorted(kinds, key=names.index)
    assert set(kinds) == set(names)
    assert [each["finish_reason"] for each in rest if each["finish_reason"]] == ["tool_calls"]


def test_how_often_answers_are_read_for_calls_is_counted(engine: Served) -> None:
    fresh = engine.api(reasoning_parser="think_tags")
    fresh.post(CHAT, **says(f"<think>\nHm.\n</think>\n\n{CALL}"), tools=[WEATHER])
    fresh.post(CHAT, **says("Well."), tools=[WEATHER])
    fresh.post(CHAT, **says(CALL))  # which nobody asked for
    events = fresh.stream(CHAT, **says(f"Well. {CALL}"), tools=[WEATHER])

    def read(mode: str, outcome: str) -> float:
        name, asked = "vllm:tool_call_parser_invocations_total", "chat_completions"
        return of(fresh, name, mode=mode, outcome=outcome, request_type=asked)

    assert (read("non_streaming", "tool_call"), read("non_streaming", "no_tool_call")) == (1, 1)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert 1 <= read("streaming", "tool_call") <= sum(bool(delta.get("tool_calls")) for delta in deltas)
    assert read("streaming", "no_tool_call") >= 1


def test_a_server_that_reads_no_calls_answers_with_their_text_and_says_so(engine: Served) -> None:
    plain = engine.api(tool_call_parser="none", reasoning_parser="none")
    answer = plain.post(CHAT, **says(CALL), tools=[WEATHER])
    assert answer["choices"][0]["message"]["content"] == CALL
    assert "--tool-call-parser" in answer["warnings"][0]
    error = plain.refusal(CHAT, **says(CALL), tools=[WEATHER], tool_choice="required")
    assert (error["code"], error["param"]) == (400, "tool_choice")


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_insisted_on_comes_also_where_the_model_has_no_form_for_it(engine: Served, stream: bool) -> None:
    plain = engine.api(chat_template="{% for message in messages %}{{ message.content }}{% endfor %}")
    body = {"messages": [{"role": "user", "content": "Go."}], "tools": [WEATHER], "tool_choice": "required"}
    body |= {"parallel_tool_calls": False, "max_tokens": 100, "seed": 3}
    if stream:
        told = [choice for event in plain.stream(CHAT, **body) for choice in event["choices"]]
        pieces = [call["function"] for each in told for call in each["delta"].get("tool_calls", ())]
        name, arguments = pieces[0]["name"], "".join(piece["arguments"] for piece in pieces)
    else:
        answer = plain.post(CHAT, **body)["choices"][0]
        ((name, arguments),) = calls(answer["message"])
        assert answer["finish_reason"] == "tool_calls"
    assert name == "get_weather"
    jsonschema.validate(json.loads(arguments), SCHEMA)


def test_what_needs_reasoning_told_apart_is_refused_or_reported_where_it_is_not(engine: Served) -> None:
    plain = engine.api(reasoning_parser="none")
    error = plain.refusal(CHAT, **says("Yes."), thinking_token_budget=5)
    assert (error["code"], error["param"]) == (400, "thinking_token_budget")
    answer = plain.post(CHAT, **says("Yes."), include_reasoning=False)
    assert "--reasoning-parser" in answer["warnings"][0]


def test_a_call_that_begins_follows_its_schema_unless_the_server_is_lax(engine: Served, api: Api) -> None:
    wrong = CALL.replace("Kyoto", "Kyoto or somewhere else")
    held = choice(api, wrong, tools=[WEATHER], max_tokens=200)["message"]
    for _, arguments in calls(held):
        jsonschema.validate(json.loads(arguments), SCHEMA)
    lax = engine.api(tool_strictness=False)
    assert calls(choice(lax, wrong, tools=[WEATHER])["message"])[0][1] == '{"city": "Kyoto or somewhere else"}'
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    for _, arguments in calls(choice(lax, wrong, tools=[strict], max_tokens=200)["message"]):
        jsonschema.validate(json.loads(arguments), SCHEMA)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_cut_by_its_length_is_told_where_nothing_closes_it(engine: Served, stream: bool) -> None:
    open_end = engine.api(tool_strictness=False, budget_closing=False)
    body = {**says(CALL), "tools": [WEATHER], "max_tokens": 40}
    cut = open_end.stream(CHAT, **body)[-1]["choices"][0] if stream else open_end.post(CHAT, **body)["choices"][0]
    assert cut["finish_reason"] == "length"
    assert cut["error"]["param"] == "tool_calls.0"


def test_the_server_may_bound_all_reasoning(engine: Served) -> None:
    bounded = engine.api(reasoning_parser="think_tags", default_thinking_token_budget=6)
    lines = "<think>\n" + "Hm. " * 20 + "</think>\n\nYes."
    for asked, most in (({}, 6), ({"thinking_token_budget": 3}, 3)):
        usage = bounded.post(CHAT, **says(lines), max_tokens=64, **asked)["usage"]
        assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] <= most
    free = bounded.post(CHAT, **says(lines), thinking_token_budget=-1)["usage"]
    assert free["completion_tokens_details"]["reasoning_tokens"] > 60


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_tokens", [16, 24, 60])
def test_an_answer_with_a_form_is_whole_whatever_its_length(api: Api, seed: int, max_tokens: int) -> None:
    body = {**says(), "temperature": 1, "seed": seed, "max_tokens": max_tokens, "response_format": FORM}
    plain = api.served.api(reasoning_parser="none")
    answer = plain.post(CHAT, **body)["choices"][0]
    jsonschema.validate(json.loads(answer["message"]["content"]), SCHEMA)
    assert answer["finish_reason"] == "stop"


def test_each_choice_has_the_form(api: Api) -> None:
    body = {"structured_outputs": {"regex": "[a-c]{3}"}, "n": 3, "temperature": 1, "max_tokens": 8}
    answers = api.post(COMPLETIONS, prompt=["x", "y"], **body)["choices"]
    assert len(answers) == 6
    assert all(len(each["text"]) == 3 and set(each["text"]) <= set("abc") for each in answers)


def test_token_ids_have_forms_too(api: Api) -> None:
    params = {"structured_outputs": {"choice": ["yes", "no"]}, "max_tokens": 8}
    answer = api.post(GENERATE, token_ids=[70, 71], sampling_params=params)["choices"][0]
    text = api.post("/detokenize", tokens=answer["token_ids"])["prompt"]
    assert text in ("yes", "no")
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {**says(), "structured_outputs": {"regex": "[unclosed"}}, "structured_outputs"),
        (COMPLETIONS, {"prompt": "x", "structured_outputs": {"regex": "[unclosed"}}, "structured_outputs"),
        (CHAT, {**says(), "response_format": {**FORM, "json_schema": {"name": "x", "schema": {"type": "no"}}}}, "resp"),
        (
            GENERATE,
            {"token_ids": [5], "sampling_params": {"structured_outputs": {"grammar": "start: ("}}},
            "sampling_params.structured_outputs",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_form_that_cannot_be_enforced_is_a_400_that_names_the_field(
    api: Api, path: str, body: dict[str, Any], param: str, stream: bool
) -> None:
    error = api.refusal(path, **body, stream=stream)
    assert error["code"] == 400
    assert error["param"].startswith(param)


def test_a_beam_search_takes_no_form(api: Api) -> None:
    asked = {"use_beam_search": True, "n": 2, "max_tokens": 4}
    error = api.refusal(COMPLETIONS, prompt="x", structured_outputs={"regex": "a"}, **asked)
    assert (error["code"], error["param"]) == (400, "structured_outputs")


def test_special_marks_never_reach_the_content(tmp_path_factory: pytest.TempPathFactory) -> None:
    actor = write_actor(tmp_path_factory.mktemp("special"), special_marks=True)
    sys.path.insert(0, str(actor.package))
    importlib.invalidate_caches()
    try:
        with served(model=str(actor.model), logits_processors=("actor.act",)) as each:
            api = each.api()
            message = choice(api, f"Well. {CALL}", tools=[WEATHER])["message"]
            assert (message["content"].strip(), calls(message)) == ("Well.", [("get_weather", '{"city": "Kyoto"}')])
    finally:
        sys.path.remove(str(actor.package))


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_that_is_continued_goes_on_with_all_of_its_text(api: Api, stream: bool) -> None:
    begun = {"role": "assistant", "content": "The list:"}
    asked = says("The list:\n\n1. <think>")
    asked["messages"].append(begun)
    asked |= {"continue_final_message": True, "add_generation_prompt": False}
    if stream:
        deltas = [event["choices"][0]["delta"] for event in api.stream(CHAT, **asked)]
        assert "".join(delta.get("content") or "" for delta in deltas) == "\n\n1. <think>"
    else:
        message = api.post(CHAT, **asked)["choices"][0]["message"]
        assert (message["content"], message["reasoning"]) == ("\n\n1. <think>", None)


def test_reasoning_of_all_choices_is_counted(api: Api) -> None:
    asked = says("<think>\nHm, hm.\n</think>\n\nYes.")
    one, three = (api.post(CHAT, **asked, n=n)["usage"]["completion_tokens_details"] for n in (1, 3))
    assert 0 < three["reasoning_tokens"] == 3 * one["reasoning_tokens"]
