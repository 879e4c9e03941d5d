"""Where a prompt is rendered: little work on the event loop, all else in a thread."""

import asyncio
import threading
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from quire_protocol import ChatCompletionRequest, CompletionRequest, GenerateRequest
from quire_server.dependencies import SHORT_BODY, rendered

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "f"}}


def is_rendered_at_once(request: ChatCompletionRequest | CompletionRequest | GenerateRequest, length: int = 64) -> bool:
    """Whether a request whose body is so long is rendered in the thread of the event loop."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b" " * length, "more_body": False}

    async def render() -> int:
        http = Request({"type": "http", "headers": []}, receive)
        return await rendered(lambda _: threading.get_ident(), request, http)

    return asyncio.run(render()) == threading.get_ident()


@pytest.mark.parametrize(
    "request_", [ChatCompletionRequest(**CHAT), CompletionRequest(prompt="hi"), CompletionRequest(prompt=[1, 2])]
)
def test_a_short_prompt_is_rendered_at_once(request_: ChatCompletionRequest | CompletionRequest) -> None:
    assert is_rendered_at_once(request_, SHORT_BODY)
    assert not is_rendered_at_once(request_, SHORT_BODY + 1)


@pytest.mark.parametrize(
    "request_",
    [
        ChatCompletionRequest(**CHAT, chat_template="{% for i in range(99999) %}{% endfor %}"),
        ChatCompletionRequest(**CHAT, chat_template_kwargs={"times": 99999}),
        ChatCompletionRequest(**CHAT, tools=[TOOL]),
        ChatCompletionRequest(**CHAT, bad_words=["a"]),
        ChatCompletionRequest(**CHAT, response_format={"type": "json_object"}),
        CompletionRequest(prompt="hi", structured_outputs={"regex": "a{999}"}),
        CompletionRequest(prompt=["hi", "ho"]),
        CompletionRequest(prompt_embeds=b"AA=="),
        GenerateRequest(token_ids=[1], sampling_params={"structured_outputs": {"regex": "a{999}"}}),
        GenerateRequest(token_ids=[1], sampling_params={"bad_words": ["a"]}),
    ],
)
def test_few_bytes_that_may_be_much_work_are_rendered_in_a_thread(
    request_: ChatCompletionRequest | CompletionRequest | GenerateRequest,
) -> None:
    assert not is_rendered_at_once(request_)
