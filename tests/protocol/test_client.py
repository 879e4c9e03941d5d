"""Typed requests through the official client: what it has no argument for still arrives, and comes back typed."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.resources import Completions as TextCompletions
from openai.resources.chat import Completions as ChatCompletions
from openai.resources.responses import Responses
from tests.support.loopback import Loopback, loopback

import quire_protocol
from quire_protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionStreamResponse,
    CompletionRequest,
    CompletionResponse,
    CompletionStreamResponse,
    DetokenizeRequest,
    ResponsesRequest,
    ResponsesResponse,
    parse_reply,
    sse,
    to_openai_kwargs,
)
from quire_protocol.client import OPENAI_ARGUMENTS

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A gathering.", "reasoning": "Hm"},
            "finish_reason": "stop",
            "stop_reason": 7,
            "token_ids": [4, 5],
        }
    ],
    "usage": USAGE,
    "prompt_token_ids": [1, 2, 3],
    "prompt_logprobs": [None, {"2": {"logprob": -0.5, "rank": 1, "decoded_token": "b"}}],
}
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHUNKS = [
    {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "prompt_token_ids": [1, 2, 3]},
    {**CHUNK, "choices": [{"index": 0, "delta": {"content": "A gath"}, "token_ids": [4]}]},
    {**CHUNK, "choices": [{"index": 0, "delta": {"content": "ering."}, "token_ids": [5], "finish_reason": "stop"}]},
    {**CHUNK, "choices": [], "usage": USAGE},
]
TEXT = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": " upon", "finish_reason": "length", "token_ids": [4], "prompt_token_ids": [1]}],
    "usage": USAGE,
}
TEXT_CHUNK = {key: value for key, value in TEXT.items() if key != "usage"}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "background": False,
    "max_output_tokens": 16,
    "service_tier": "auto",
    "status": "completed",
    "truncation": "disabled",
    "output_messages": [{"message": "Hi", "tokens": [1]}],
}


def stream_of(*events: dict[str, Any]) -> bytes:
    return b"".join(map(sse.encode, [*events, sse.DONE]))


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(
        {
            "/v1/chat/completions": CHAT,
            "/v1/chat/completions?stream": stream_of(*CHUNKS),
            "/v1/completions": TEXT,
            "/v1/completions?stream": stream_of(TEXT_CHUNK),
            "/v1/responses": RESPONSE,
        }
    ) as server:
        yield server


@pytest.fixture
def client(server: Loopback) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=10) as client:
        yield client


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def test_a_chat_request_arrives_as_it_was_written(client: openai.OpenAI, server: Loopback) -> None:
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}], "own": 1}],
        "model": "m",
        "temperature": 0.5,
        "stop": ["\n"],
        "top_k": 5,
        "return_token_ids": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "shoe_size": 42,
    }
    client.chat.completions.create(**to_openai_kwargs(ChatCompletionRequest(**given)))
    assert server.asked == [given]


def test_the_reply_has_types_for_what_openai_does_not_know(client: openai.OpenAI) -> None:
    kwargs = to_openai_kwargs(ChatCompletionRequest(messages=MESSAGES, return_token_ids=True))
    reply = parse_reply(client.chat.completions.create(**kwargs), ChatCompletionResponse)
    assert reply.prompt_token_ids == [1, 2, 3]
    assert reply.choices[0].token_ids == [4, 5]
    assert reply.choices[0].stop_reason == 7
    assert reply.choices[0].message.reasoning == "Hm"
    assert reply.prompt_logprobs is not None
    assert reply.prompt_logprobs[1] is not None
    assert reply.prompt_logprobs[1][2].rank == 1


def test_the_chunks_of_a_stream_have_types_too(client: openai.OpenAI) -> None:
    kwargs = to_openai_kwargs(ChatCompletionRequest(messages=MESSAGES, stream=True))
    chunks = [parse_reply(chunk, ChatCompletionStreamResponse) for chunk in client.chat.completions.create(**kwargs)]
    assert chunks[0].prompt_token_ids == [1, 2, 3]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "A gathering."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


def test_text_completions_go_the_same_way(client: openai.OpenAI, server: Loopback) -> None:
    kwargs = to_openai_kwargs(CompletionRequest(prompt="Once", min_tokens=2, return_token_ids=True))
    reply = parse_reply(client.completions.create(**kwargs), CompletionResponse)
    assert server.asked == [{"model": "", "prompt": "Once", "min_tokens": 2, "return_token_ids": True}]
    assert reply.choices[0].prompt_token_ids == [1]
    kwargs = to_openai_kwargs(CompletionRequest(prompt=[[1, 2], [3]], stream=True))
    chunks = [parse_reply(chunk, CompletionStreamResponse) for chunk in client.completions.create(**kwargs)]
    assert chunks[0].choices[0].token_ids == [4]


def test_responses_go_the_same_way(client: openai.OpenAI, server: Loopback) -> None:
    given: dict[str, Any] = {
        "input": [{"role": "user", "content": "Hi"}],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "top_k": 5,
        "enable_response_messages": True,
    }
    reply = parse_reply(client.responses.create(**to_openai_kwargs(ResponsesRequest(**given))), ResponsesResponse)
    assert server.asked == [{"model": "", **given}]
    assert reply.output_messages is not None


def test_only_what_was_set_is_sent() -> None:
    assert to_openai_kwargs(ChatCompletionRequest(messages=MESSAGES)) == {"messages": MESSAGES, "model": ""}
    assert to_openai_kwargs(CompletionRequest(prompt_embeds="AAAA")) == {
        "model": "",
        "prompt": None,
        "extra_body": {"prompt_embeds": "AAAA"},
    }


def test_the_client_has_no_call_for_other_requests() -> None:
    with pytest.raises(TypeError, match=r"request must be one of ChatCompletionRequest, .* got a DetokenizeRequest"):
        to_openai_kwargs(DetokenizeRequest(tokens=[1]))


@pytest.mark.parametrize(
    ("kind", "resource"),
    [
        ("ChatCompletionRequest", ChatCompletions),
        ("CompletionRequest", TextCompletions),
        ("ResponsesRequest", Responses),
    ],
)
def test_the_arguments_are_those_of_the_installed_client(kind: str, resource: type) -> None:
    parameters = {*inspect.signature(resource.create).parameters}  # type: ignore[attr-defined]
    assert OPENAI_ARGUMENTS[kind] == parameters & {*getattr(quire_protocol, kind).model_fields}


def test_the_example_asks_and_streams(server: Loopback) -> None:
    program = Path(__file__).parents[2] / "examples/client_only.py"
    done = subprocess.run(
        [sys.executable, program, "--base-url", server.url, "What is a quire?"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "answer: 'A gathering.' (stop)",
        "prompt: 3 tokens; answer: [4, 5]",
        "stream: A gathering.",
        "usage: 3 + 2 tokens",
    ]


def test_building_a_request_imports_no_openai() -> None:
    program = (
        "import sys; from quire_protocol import ChatCompletionRequest, to_openai_kwargs, unknown_fields, check_limits; "
        "request = ChatCompletionRequest(messages=[{'role': 'user', 'content': 'Hi'}], top_k=5); "
        "check_limits(request); unknown_fields(request); to_openai_kwargs(request); "
        "print({name.partition('.')[0] for name in sys.modules} & {'openai', 'torch', 'fastapi', 'transformers'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
