"""The official openai client with typed requests and replies: what goes where in a call, without importing openai.

>>> client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
>>> request = ChatCompletionRequest(messages=[{"role": "user", "content": "Hi"}], top_k=5, return_token_ids=True)
>>> reply = parse_reply(client.chat.completions.create(**to_openai_kwargs(request)), ChatCompletionResponse)
>>> reply.choices[0].token_ids
[9707, 0]
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPENAI_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "ChatCompletionRequest": _words(
        """messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n
        presence_penalty response_format seed stop stream stream_options temperature top_p tools tool_choice
        reasoning_effort parallel_tool_calls user"""
    ),
    "CompletionRequest": _words(
        """model prompt echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream
        stream_options suffix temperature top_p user"""
    ),
    "ResponsesRequest": _words(
        """background include input instructions max_output_tokens max_tool_calls metadata model parallel_tool_calls
        previous_response_id prompt reasoning service_tier store stream temperature text tool_choice tools
        top_logprobs top_p truncation user"""
    ),
}
"""Fields that the client's `create` takes as arguments, by request; all others travel in its `extra_body`."""

_REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "ChatCompletionRequest": {"model": ""},
    "CompletionRequest": {"model": "", "prompt": None},
    "ResponsesRequest": {"model": ""},
}
"""Arguments that `create` demands although a request may do without them; an empty model is the server's own."""


class Reply(Protocol):
    """An object of the openai client: a completion, a chunk of one, a response."""

    def to_dict(self) -> dict[str, object]:
        """What the server sent, as plain data, fields unknown to openai included."""


def to_openai_kwargs(request: BaseModel) -> dict[str, Any]:
    """The arguments for `create` of `client.chat.completions`, `client.completions` or `client.responses`.

    Only what was set is sent, as plain data; what the client has no argument for, fields of no schema included, goes
    into `extra_body`. TypeError for a request that the client has no `create` for.
    """
    kind = type(request).__name__
    if kind not in OPENAI_ARGUMENTS:
        raise TypeError(f"request must be one of {', '.join(OPENAI_ARGUMENTS)}, got a {kind}")
    kwargs = dict(_REQUIRED[kind])
    extra_body: dict[str, Any] = {}
    for name, value in request.model_dump(mode="json", by_alias=True, exclude_unset=True).items():
        (kwargs if name in OPENAI_ARGUMENTS[kind] else extra_body)[name] = value
    if extra_body:
        kwargs["extra_body"] = extra_body
    return kwargs


def parse_reply(reply: Reply, model: type[Model]) -> Model:
    """The client's object as one of this package's, so that vLLM's extra fields have names and types.

    For a stream, call it on each chunk with ChatCompletionStreamResponse or CompletionStreamResponse.
    """
    return model.model_validate(reply.to_dict())
