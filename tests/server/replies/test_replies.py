"""A whole answer is the fold of the chunks that a stream sends, however the deliveries were cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.support.outputs import Given, scored

from quire_engine.checkpoint import DEFAULT_MODEL
from quire_engine.text.output import Output
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    CompletionRequest,
    CompletionResponse,
    GenerateRequest,
    GenerateResponse,
    SamplingParams,
)
from quire_server.replies.chat import ChatReply
from quire_server.replies.completions import CompletionReply
from quire_server.replies.generate import GenerateReply
from quire_server.replies.heading import Heading
from quire_server.replies.wire import TextChunk, encode
from quire_server.settings import ServerSettings

TOKENIZER = Tokenizer.load(DEFAULT_MODEL)
HEADING = Heading("id-1", 1700000000, "tiny", "print", ("a warning",))
SETTINGS = ServerSettings(api_key=(), enable_prompt_tokens_details=True)
PROMPT = "Once upon"
CONVERSATION = [{"role": "user", "content": PROMPT}]


@st.composite
def answers(draw: st.DrawFn) -> list[list[Output]]:
    """Up to three choices, each cut into deliveries, and the deliveries of all of them shuffled together."""
    choices = draw(st.integers(1, 3))
    cut = []
    for index in range(choices):
        texts = draw(st.lists(st.sampled_from(["", " a", "bc", "🦆"]), min_size=1, max_size=5))
        outputs = [
            Output(
                index,
                text,
                (token,),
                logprobs=(scored(token, 7, 8),),
                prompt_logprobs=(None, scored(9, 7)) if index == place == 0 else None,
                cached_tokens=2,
            )
            for place, (text, token) in enumerate(zip(texts, range(20, 30), strict=False))
        ]
        reason = draw(
            st.sampled_from(
                [("stop", None), ("stop", "x"), ("stop", 30), ("length", None), ("timeout", None), ("abort", None)]
            )
        )
        last = Output(index, draw(st.sampled_from(["", "end"])), (30,), (scored(30, 7, 8),), None, *reason, 2)
        cut.append([*outputs, last])
    order = draw(st.permutations([index for index, outputs in enumerate(cut) for _ in outputs]))
    # The first choice's first delivery comes first: the others share the prompt that it computes.
    first = order.index(0)
    order = [0, *order[:first], *order[first + 1 :]]
    rest = [iter(outputs) for outputs in cut]
    return [[next(rest[index]) for index in order], choices]


REQUESTS = st.fixed_dictionaries(
    {
        "logprobs": st.sampled_from([None, 0, 2]),
        "echo": st.booleans(),
        "return_token_ids": st.booleans(),
        "return_tokens_as_token_ids": st.booleans(),
    }
)


def prompt(choices: int, stream: bool, logprobs: int | None = 2) -> GenerateRequest:
    token_ids = TOKENIZER.encode(PROMPT)[:2]
    return GenerateRequest(
        token_ids=token_ids, sampling_params=SamplingParams(n=choices, logprobs=logprobs), stream=stream
    )


def chat(
    asked: dict[str, Any], outputs: Sequence[Output], choices: int, stream: bool, together: bool = False
) -> ChatReply:
    logprobs = asked["logprobs"]
    fields = {**asked, "logprobs": logprobs is not None, "top_logprobs": logprobs or 0, "stream": stream, "n": choices}
    request = ChatCompletionRequest(messages=CONVERSATION, stream_options={} if stream else None, **fields)
    return ChatReply(request, prompt(choices, stream), Given(outputs, together=together), HEADING, TOKENIZER, SETTINGS)


def completion(
    asked: dict[str, Any], outputs: Sequence[Output], choices: int, stream: bool, together: bool = False
) -> CompletionReply:
    request = CompletionRequest(prompt=PROMPT, stream=stream, stream_options={} if stream else None, n=choices, **asked)
    prompts = [prompt(choices, stream)]
    return CompletionReply(request, prompts, [Given(outputs, together=together)], HEADING, TOKENIZER, SETTINGS)


def sent(chunks: AsyncIterator[list[BaseModel | TextChunk]]) -> list[dict[str, Any]]:
    """The chunks as a client reads them."""

    async def read() -> list[dict[str, Any]]:
        return [json.loads(encode(chunk).removeprefix(b"data: ")) async for come in chunks for chunk in come]

    return asyncio.run(read())


def joined(parts: list[Any]) -> Any:
    """Pieces of one field as a whole: texts and lists in order, of other things the last that says something."""
    told = [part for part in parts if part is not None]
    if not told:
        return None
    if isinstance(told[0], str):
        return "".join(told)
    if isinstance(told[0], list):
        return [each for part in told for each in part]
    if isinstance(told[0], dict):
        return {key: joined([part.get(key) for part in told]) for key in told[0]}
    return told[-1]


def folded(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """One choice, put together by a client that knows nothing but the chunks."""
    pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    ends = [piece for piece in pieces if piece.get("finish_reason")]
    assert ends == pieces[-1:]
    names = {name for piece in pieces for name in piece} - {"index", "delta", "finish_reason", "stop_reason"}
    whole = {name: joined([piece.get(name) for piece in pieces]) for name in names}
    return {**whole, "finish_reason": ends[0]["finish_reason"], "stop_reason": ends[0]["stop_reason"]}


@given(answers(), REQUESTS)
def test_a_completion_is_the_fold_of_its_chunks(answer: list[Any], asked: dict[str, Any]) -> None:
    outputs, choices = answer
    whole = json.loads(asyncio.run(completion(asked, outputs, choices, False).complete()).model_dump_json())
    chunks = sent(completion(asked, outputs, choices, True).chunks())
    CompletionResponse.model_validate(whole)
    assert len(whole["choices"]) == choices
    for choice in whole["choices"]:
        pieces = folded(chunks, choice["index"])
        assert {name: choice[name] for name in pieces} == pieces
        assert choice["text"].startswith(PROMPT) == asked["echo"]
    assert whole["usage"] == chunks[-1]["usage"]
    assert [whole["warnings"], chunks[0]["warnings"]] == [["a warning"]] * 2


@given(answers(), REQUESTS)
def test_a_chat_completion_is_the_fold_of_its_chunks(answer: list[Any], asked: dict[str, Any]) -> None:
    outputs, choices = answer
    whole = json.loads(asyncio.run(chat(asked, outputs, choices, False).complete()).model_dump_json())
    chunks = sent(chat(asked, outputs, choices, True).chunks())
    ChatCompletionResponse.model_validate(whole)
    assert len(whole["choices"]) == choices
    for choice in whole["choices"]:
        index = choice["index"]
        deltas = [each["delta"] for chunk in chunks for each in chunk["choices"] if each["index"] == index]
        assert deltas[0] == {"role": "assistant", "content": "", "reasoning_content": None}
        assert choice["message"]["content"] == "".join(delta["content"] for delta in deltas)
        pieces = folded(chunks, index)
        assert {name: choice[name] for name in pieces} == pieces
    assert whole["usage"] == chunks[-1]["usage"]
    assert whole["prompt_token_ids"] == chunks[0]["prompt_token_ids"]
    assert whole["prompt_logprobs"] == chunks[0]["prompt_logprobs"]
    assert [whole["warnings"], chunks[0]["warnings"]] == [["a warning"]] * 2


@pytest.mark.parametrize("make", [chat, completion])
@given(answers(), REQUESTS)
def test_chunks_that_are_there_together_are_those_that_come_one_by_one(
    make: Any, answer: list[Any], asked: dict[str, Any]
) -> None:
    outputs, choices = answer
    alone = sent(make(asked, outputs, choices, True).chunks())
    assert sent(make(asked, outputs, choices, True, True).chunks()) == alone


@given(answers())
def test_generated_ids_are_the_fold_of_their_chunks(answer: list[Any]) -> None:
    outputs, choices = answer
    reply = GenerateReply(prompt(choices, False), Given(outputs), SETTINGS)
    whole = json.loads(asyncio.run(reply.complete()).model_dump_json())
    chunks = sent(GenerateReply(prompt(choices, True), Given(outputs), SETTINGS).chunks())
    GenerateResponse.model_validate(whole)
    for choice in whole["choices"]:
        pieces = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert choice["token_ids"] == joined([piece["token_ids"] for piece in pieces])
        assert choice["logprobs"] == joined([piece["logprobs"] for piece in pieces])
        assert choice["finish_reason"] == pieces[-1]["finish_reason"]


@pytest.mark.parametrize("make", [chat, completion])
def test_a_delivery_that_says_nothing_is_no_chunk(make: Any) -> None:
    outputs = [Output(0, "", (1,)), Output(0, "", (2,)), Output(0, "ab", (3,)), Output(0, "", (4,), (), None, "stop")]
    asked = {"logprobs": None, "echo": False, "return_token_ids": False}
    chunks = sent(make(asked, outputs, 1, True).chunks())
    texts = [each.get("text", each.get("delta", {}).get("content")) for chunk in chunks for each in chunk["choices"]]
    assert texts == ["", "ab", ""][make is completion :]


def test_a_prompt_is_counted_once_and_so_is_what_was_cached() -> None:
    outputs = [Output(index, "a", (1, 2), cached_tokens=1 + index, finish_reason="stop") for index in range(3)]
    asked = {"logprobs": None, "echo": False}
    usage = asyncio.run(completion(asked, outputs, 3, False).complete()).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2, 6, 8)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 1


@pytest.mark.parametrize(
    ("options", "force", "ends_with_usage", "on_each"),
    [
        (None, False, False, False),
        (None, True, True, False),
        ({}, False, True, False),
        ({"include_usage": False}, False, False, False),
        ({"include_usage": False}, True, True, False),
        ({"continuous_usage_stats": True}, False, True, True),
        ({"include_usage": False, "continuous_usage_stats": True}, False, False, False),
    ],
)
def test_a_stream_tells_its_usage_as_asked(options: Any, force: bool, ends_with_usage: bool, on_each: bool) -> None:
    settings = SETTINGS.model_copy(update={"enable_force_include_usage": force})
    outputs = Given([Output(0, "a", (1,)), Output(0, "b", (2,), (), None, "stop")])
    request = ChatCompletionRequest(messages=CONVERSATION, stream=True, stream_options=options)
    reply = ChatReply(request, prompt(1, True), outputs, HEADING, TOKENIZER, settings)
    *chunks, last = sent(reply.chunks())
    assert (last["choices"] == [] and last["usage"]["completion_tokens"] == 2) == ends_with_usage
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    assert counts == ([0, 1, 2] if on_each else [])


def test_a_server_may_name_all_tokens_by_id() -> None:
    settings = SETTINGS.model_copy(update={"return_tokens_as_token_ids": True})
    outputs = Given([Output(0, "a", (20,), (scored(20),), None, "stop")])
    request = ChatCompletionRequest(messages=CONVERSATION, logprobs=True)
    reply = ChatReply(request, prompt(1, False), outputs, HEADING, TOKENIZER, settings)
    logprobs = asyncio.run(reply.complete()).choices[0].logprobs
    assert logprobs is not None
    assert [entry.token for entry in logprobs.content or []] == ["token_id:20"]
