"""Chunks that bring nothing but text are the schema's own, written faster."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.outputs import Given

from quire_engine.checkpoint import DEFAULT_MODEL
from quire_engine.text.output import Output
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    CompletionRequest,
    CompletionResponseStreamChoice,
    CompletionStreamResponse,
    GenerateRequest,
    SamplingParams,
    sse,
)
from quire_server.replies.completions import CompletionReply
from quire_server.replies.heading import Heading
from quire_server.replies.wire import TextChunk, TextForm, encode
from quire_server.settings import ServerSettings

TOKENIZER = Tokenizer.load(DEFAULT_MODEL)
HEADING = Heading("cmpl-1", 1700000000, 'a "tiny" model', "print")
ANSWER = [Output(0, text, (token,)) for token, text in enumerate("abcd")] + [Output(0, "", (9,), finish_reason="stop")]


def made(text: str) -> CompletionStreamResponse:
    choice = CompletionResponseStreamChoice(index=2, text=text, finish_reason=None)
    return CompletionStreamResponse(id="cmpl-1", created=1700000000, model='a "tiny" model', choices=[choice])


def chunks_of(outputs: list[Output], **asked: Any) -> list[Any]:
    request = CompletionRequest(prompt="x", stream=True, **asked)
    prompt = GenerateRequest(token_ids=[1], sampling_params=SamplingParams())
    reply = CompletionReply(request, [prompt], [Given(outputs)], HEADING, TOKENIZER, ServerSettings(api_key=()))

    async def read(chunks: AsyncIterator[Any]) -> list[Any]:
        return [chunk async for come in chunks for chunk in come]

    return asyncio.run(read(reply.chunks()))


@given(st.text())
def test_a_text_chunk_has_the_bytes_that_the_schema_writes(text: str) -> None:
    assert encode(TextForm(2, made).chunk(text)) == sse.encode(made(text), exclude_unset=True)


def test_after_its_first_delivery_a_plain_answer_is_written_as_text_chunks() -> None:
    first, *rest, last = chunks_of(ANSWER)
    assert [type(chunk) for chunk in rest] == [TextChunk] * 3
    assert [
        encode(chunk).replace(b'"%s"' % text, b'"a"') for chunk, text in zip(rest, (b"b", b"c", b"d"), strict=True)
    ] == [encode(first)] * 3
    assert last.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "asked",
    [
        {"return_token_ids": True},
        {"logprobs": 0},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_says_more_than_text_is_written_by_the_schema(asked: dict[str, Any]) -> None:
    assert not any(isinstance(chunk, TextChunk) for chunk in chunks_of(ANSWER, **asked))


def test_a_text_that_is_held_back_is_no_chunk() -> None:
    outputs = [ANSWER[0], Output(0, "", (7,)), ANSWER[1], ANSWER[-1]]
    assert len(chunks_of(outputs)) == 3
