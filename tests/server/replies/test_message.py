"""What an answer turns out to be is sent as such, and the whole answer is the fold of what was sent."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.outputs import Given

from quire_engine.checkpoint import DEFAULT_MODEL
from quire_engine.text.answers import PLAIN, Reading
from quire_engine.text.formats.base import Parser, Tool
from quire_engine.text.formats.reasoning import reasoning_format
from quire_engine.text.formats.tools import tool_format
from quire_engine.text.output import Output
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import ChatCompletionRequest, GenerateRequest, SamplingParams
from quire_server.replies.chat import ChatReply
from quire_server.replies.heading import Heading
from quire_server.replies.wire import encode
from quire_server.settings import ServerSettings

TOKENIZER = Tokenizer.load(DEFAULT_MODEL)
HEADING = Heading("id-1", 1700000000, "tiny", "print")
SETTINGS = ServerSettings(api_key=())
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
TOOLS = [Tool("look", {"type": "object"})]
TWO_CALLS = (
    'Well.<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
)


def calls() -> Parser:
    return tool_format("hermes").parser(TOOLS)


def thoughts() -> Parser:
    return reasoning_format("think_tags").parser(is_open=False)


def outputs(text: str, cuts: Sequence[int], reason: Any = "stop") -> list[Output]:
    """An answer of one-letter tokens in deliveries that end at these places."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    parts = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    told = [Output(0, part, tuple(range(len(part))), shares=(1,) * len(part)) for part in parts]
    last = told[-1]
    return [*told[:-1], Output(0, last.text, last.token_ids, finish_reason=reason, shares=last.shares)]


def reply(
    answer: Sequence[Output], parser: Callable[[], Parser] | None = None, reasons: bool = False, **asked: Any
) -> ChatReply:
    request = ChatCompletionRequest(
        messages=[{"role": "user", "content": "Hi"}], stream_options={} if asked.get("stream") else None, **asked
    )
    prompt = GenerateRequest(token_ids=[1, 2], sampling_params=SamplingParams())
    reading = PLAIN if parser is None else Reading(parser, tells_reasoning=reasons)
    return ChatReply(request, prompt, Given(answer), HEADING, TOKENIZER, SETTINGS, reading)


def whole(*given: Any, **asked: Any) -> dict[str, Any]:
    """The choice and the usage of an answer at once."""
    answer = json.loads(asyncio.run(reply(*given, **asked).complete()).model_dump_json())
    return {**answer["choices"][0], "usage": answer["usage"]}


def deltas(*given: Any, **asked: Any) -> list[dict[str, Any]]:
    """The choices of a stream, without those that tell the usage."""

    async def read() -> list[Any]:
        chunks = reply(*given, stream=True, **asked).chunks()
        return [json.loads(encode(chunk).removeprefix(b"data: ")) async for come in chunks for chunk in come]

    return [chunk["choices"][0] for chunk in asyncio.run(read()) if chunk["choices"]]


def accumulated(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """A message, put together as clients do: texts one after the other, calls by index."""
    texts: dict[str, str] = {}
    found: dict[int, dict[str, Any]] = {}
    for choice in choices:
        for name in ("content", "reasoning", "reasoning_content"):
            texts[name] = texts.get(name, "") + (choice["delta"].get(name) or "")
        for call in choice["delta"].get("tool_calls", ()):
            entry = found.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            entry["id"] += call.get("id", "")
            entry["name"] += call["function"].get("name", "")
            entry["arguments"] += call["function"].get("arguments", "")
    return {**texts, "calls": [{**call, "id": bool(call["id"])} for _, call in sorted(found.items())]}


def as_accumulated(message: dict[str, Any]) -> dict[str, Any]:
    """A whole message in the same form."""
    found = [{"id": bool(call["id"]), **call["function"]} for call in message["tool_calls"]]
    return {**{name: message[name] or "" for name in ("content", "reasoning", "reasoning_content")}, "calls": found}


ANSWERS = [
    (calls, TWO_CALLS),
    (calls, "No call <tool"),
    (calls, '<tool_call>\n{"name": "look", "arguments": {"at": "s'),
    (calls, '<tool_call>\n{"name": "look", "arguments": {"at": nonsense}}\n</tool_call> so'),
    (thoughts, "<think>\nHm.\n\nHm!\n</think>\n\nYes."),
    (thoughts, "<think>\nHm"),
    (thoughts, "Yes."),
]


@given(
    answer=st.sampled_from(ANSWERS),
    cuts=st.lists(st.integers(1, 130), max_size=12),
    reason=st.sampled_from(["stop", "length"]),
    asked=st.fixed_dictionaries(
        {}, optional={"parallel_tool_calls": st.booleans(), "include_reasoning": st.booleans()}
    ),
)
def test_a_stream_says_what_the_whole_says_however_it_is_cut(
    answer: tuple[Callable[[], Parser], str], cuts: list[int], reason: str, asked: dict[str, Any]
) -> None:
    parser, text = answer
    uncut = whole(outputs(text, [], reason), parser, True, tools=[LOOK], **asked)
    streamed = deltas(outputs(text, cuts, reason), parser, True, tools=[LOOK], **asked)
    assert accumulated(streamed) == as_accumulated(uncut["message"])
    for name in ("finish_reason", "stop_reason"):
        assert streamed[-1][name] == uncut[name]
    assert streamed[-1].get("error") == uncut["error"]
    assert whole(outputs(text, cuts, reason), parser, True, tools=[LOOK], **asked)["usage"] == uncut["usage"]


def test_a_call_begins_with_its_name_and_goes_on_with_pieces_of_its_arguments() -> None:
    role, text, *rest = deltas(outputs(TWO_CALLS, [70]), calls, tools=[LOOK])
    assert role["delta"] == {"role": "assistant", "content": "", "reasoning_content": None}
    assert text["delta"]["content"] == "Well."
    first, *pieces = [delta["delta"]["tool_calls"] for delta in rest if "tool_calls" in delta["delta"]]
    ((began,),) = (first,)
    assert {**began, "id": ""} == {
        "index": 0,
        "id": "",
        "type": "function",
        "function": {"name": "look", "arguments": ""},
    }
    assert began["id"].startswith("chatcmpl-tool-")
    assert [set(piece[0]) for piece in pieces if piece[0]["index"] == 0] == [{"index", "function"}] * (len(pieces) - 2)
    assert rest[-1]["finish_reason"] == "tool_calls"


def test_no_delta_has_two_pieces_of_one_call() -> None:
    found = deltas(outputs(TWO_CALLS, []), calls, tools=[LOOK])
    assert max(len(delta["delta"].get("tool_calls", ())) for delta in found) == 1
    assert all(set(delta["delta"]) & {"content", "reasoning"} <= {"content"} for delta in found)


@pytest.mark.parametrize(
    ("asked", "reason", "told"),
    [
        ({"tools": [LOOK]}, "stop", "tool_calls"),
        ({"tools": [LOOK], "tool_choice": "required"}, "stop", "tool_calls"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}}, "stop", "stop"),
        ({"tools": [LOOK]}, "length", "length"),
    ],
)
def test_calls_are_why_an_answer_ended_unless_it_was_cut_or_the_call_was_named(
    asked: dict[str, Any], reason: str, told: str
) -> None:
    assert whole(outputs(TWO_CALLS, [], reason), calls, **asked)["finish_reason"] == told


@pytest.mark.parametrize(("reason", "told"), [("stop", "error"), ("length", "length")])
def test_a_call_that_cannot_be_completed_is_reported(reason: str, told: str) -> None:
    broken = outputs('<tool_call>\n{"name": "look", "arguments": {"at": "s', [], reason)
    choice = whole(broken, calls, tools=[LOOK])
    assert choice["finish_reason"] == told
    assert (choice["error"]["type"], choice["error"]["param"]) == ("InvalidToolCall", "tool_calls.0")
    assert choice["error"]["message"].startswith("The call of look could not be completed, so tool_calls.0 is no call")
    assert "leave it out" in choice["error"]["message"]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "s'}


def test_a_call_that_broke_before_its_name_is_reported_and_is_not_in_the_message() -> None:
    choice = whole(outputs('<tool_call>\n{"name": "lo', []), calls, tools=[LOOK])
    assert choice["message"]["tool_calls"] == []
    assert choice["error"]["message"].startswith("A tool call could not be completed: ")


def test_a_complete_answer_has_no_error() -> None:
    assert whole(outputs(TWO_CALLS, []), calls, tools=[LOOK])["error"] is None
    assert "error" not in deltas(outputs(TWO_CALLS, []), calls, tools=[LOOK])[-1]


def test_an_answer_of_calls_alone_has_no_content() -> None:
    message = whole(outputs(TWO_CALLS.removeprefix("Well."), []), calls, tools=[LOOK])["message"]
    assert message["content"] is None
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"at": "sky"}', "{}"]
    assert len({call["id"] for call in message["tool_calls"]}) == 2


def test_without_parallel_calls_there_is_one_and_a_broken_second_is_none_of_the_answer_s() -> None:
    broken = TWO_CALLS.removesuffix("}\n</tool_call>")
    for text in (TWO_CALLS, broken):
        choice = whole(outputs(text, []), calls, tools=[LOOK], parallel_tool_calls=False)
        assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == ['{"at": "sky"}']
        assert (choice["finish_reason"], choice["error"]) == ("tool_calls", None)


def test_reasoning_stands_beside_the_content_under_both_names() -> None:
    message = whole(outputs("<think>\nHm.\n</think>\n\nYes.", []), thoughts, True)["message"]
    assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("Hm.", "Hm.", "Yes.")


def test_reasoning_that_nobody_wants_is_left_out_and_counted() -> None:
    answer = outputs("<think>\nHm.\n</think>\n\nYes.", [])
    told = whole(answer, thoughts, True, include_reasoning=False)
    assert (told["message"]["reasoning"], told["message"]["content"]) == (None, "Yes.")
    assert told["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("<think>\nHm.\n</think>\n\nYes.", 3), ("<think>a<b</think>", 3), ("<think>a<", 2), ("Yes.", 0), ("<think>", 0)],
)
def test_tokens_count_as_reasoning_by_what_their_text_turns_out_to_be(text: str, tokens: int) -> None:
    usage = whole(outputs(text, []), thoughts, True)["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": tokens}
    assert usage["completion_tokens"] == len(text)


def test_a_server_that_tells_no_reasoning_apart_counts_none() -> None:
    assert whole(outputs("Yes.", []))["usage"]["completion_tokens_details"] is None


def test_tokens_are_told_with_the_last_delta_of_their_delivery() -> None:
    answer = outputs("<think>Hm</think>Yes", [])
    _, thought, said = deltas(answer, thoughts, True, return_token_ids=True)
    assert (thought["delta"]["reasoning"], thought["token_ids"]) == ("Hm", None)
    assert (said["delta"]["content"], said["token_ids"]) == ("Yes", [*range(20)])


def test_text_that_is_held_back_makes_no_delta() -> None:
    answer = outputs("<think>Hm</think>Yes", [3, 9, 11, 17])
    told = [delta["delta"] for delta in deltas(answer, thoughts, True)]
    assert [delta.get("reasoning") or delta.get("content") for delta in told] == ["", "Hm", "Yes"]
