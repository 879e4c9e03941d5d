"""What a field of a request needs and what it excludes, each with a body that is refused: the table behind the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHAT, COMPLETION, GENERATE = "ChatCompletionRequest", "CompletionRequest", "GenerateRequest"
BOTH = (CHAT, COMPLETION)
ALL = (*BOTH, GENERATE)

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TEXT_BEYOND_ANY_CONTEXT = 10**6


@dataclass(frozen=True)
class Condition:
    """One condition of one field."""

    requests: tuple[str, ...]
    field: str
    says: str
    refused: Mapping[str, Any]
    """What a body has that breaks it."""


CONDITIONS: tuple[Condition, ...] = (
    Condition(BOTH, "max_tokens", "not more than the context has room for", {"max_tokens": TEXT_BEYOND_ANY_CONTEXT}),
    Condition(
        (CHAT,), "max_completion_tokens", "wins over `max_tokens`", {"max_tokens": 1, "max_completion_tokens": 0}
    ),
    Condition(BOTH, "min_tokens", "not above `max_tokens`", {"min_tokens": 3, "max_tokens": 2}),
    Condition(ALL, "stream_options", "only with `stream`", {"stream_options": {"include_usage": True}}),
    Condition(BOTH, "prompt_logprobs", "not with `stream`", {"prompt_logprobs": 1, "stream": True}),
    Condition(BOTH, "prompt_logprobs", "at most `--max-logprobs`", {"prompt_logprobs": 21}),
    Condition((COMPLETION,), "logprobs", "at most `--max-logprobs`", {"logprobs": 21}),
    Condition((CHAT,), "top_logprobs", "only with `logprobs`", {"top_logprobs": 1}),
    Condition((CHAT,), "top_logprobs", "at most `--max-logprobs`", {"logprobs": True, "top_logprobs": 21}),
    Condition(BOTH, "logit_bias", "ids of the vocabulary only", {"logit_bias": {"9999999": 1}}),
    Condition(BOTH, "allowed_token_ids", "ids of the vocabulary only", {"allowed_token_ids": [9999999]}),
    Condition(BOTH, "allowed_token_ids", "not empty", {"allowed_token_ids": []}),
    Condition(BOTH, "stop", "at most 16,384 characters in all", {"stop": ["x" * 4096] * 5}),
    Condition(BOTH, "stop_token_ids", "ids of the vocabulary only", {"stop_token_ids": [9999999]}),
    Condition(BOTH, "truncate_prompt_tokens", "not 0", {"truncate_prompt_tokens": 0}),
    Condition(BOTH, "truncate_prompt_tokens", "not above the context", {"truncate_prompt_tokens": 9999999}),
    Condition(ALL, "priority", "only with `--scheduling-policy priority`", {"priority": 1}),
    Condition(BOTH, "logits_processors", "only those of `--logits-processor-pattern`", {"logits_processors": ["os"]}),
    Condition((COMPLETION,), "prompt_embeds", "only with `--enable-prompt-embeds`", {"prompt_embeds": "AAAA"}),
    Condition((COMPLETION,), "suffix", "only for models that mark gaps in text", {"suffix": "x"}),
    Condition((COMPLETION,), "prompt", "not empty; ids of the vocabulary only", {"prompt": [9999999]}),
    Condition((CHAT,), "messages", "not empty", {"messages": []}),
    Condition((CHAT,), "chat_template", "only with `--trust-request-chat-template`", {"chat_template": "x"}),
    Condition(
        (CHAT,),
        "chat_template_kwargs",
        "no names that the request's own fields decide",
        {"chat_template_kwargs": {"messages": []}},
    ),
    Condition(
        (CHAT,),
        "continue_final_message",
        "not with `add_generation_prompt` true",
        {"continue_final_message": True, "add_generation_prompt": True},
    ),
    Condition((CHAT,), "tool_choice", "only with `tools`", {"tool_choice": "auto"}),
    Condition(
        BOTH,
        "structured_outputs",
        "not with a `response_format` but text",
        {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
    ),
    Condition(
        (CHAT,),
        "structured_outputs",
        "not with a named `tool_choice`",
        {
            "structured_outputs": {"regex": "a"},
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    ),
    Condition((GENERATE,), "token_ids", "not empty; ids of the vocabulary only", {"token_ids": [9999999]}),
)
