"""What an answer costs in tokens, counted as it is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quire_engine.text.output import Output
from quire_protocol import (
    CompletionTokenUsageInfo,
    GenerateRequest,
    PromptTokenUsageInfo,
    StreamOptions,
    UsageInfo,
)


class UsageCount:
    """Counts one answer, all its prompts and choices together. A prompt counts once, however many choices it has."""

    __slots__ = ("cached", "completion_tokens", "prompt_tokens", "reasoning_tokens")

    def __init__(self, prompts: Sequence[GenerateRequest], details: bool) -> None:
        self.prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        self.completion_tokens = 0
        self.reasoning_tokens: int | None = None
        """Tokens of reasoning among the answers'; None where nobody tells them apart."""
        self.cached: dict[int, int] | None = {} if details else None

    def add(self, place: int, output: Output) -> None:
        """Count a delivery of the prompt at this place."""
        self.completion_tokens += len(output.token_ids)
        # Later choices share the first one's prompt: what they find cached is what it just computed.
        if self.cached is not None and output.index == 0:
            self.cached[place] = output.cached_tokens

    def info(self) -> UsageInfo:
        """The count so far."""
        details = spent = None
        if self.cached is not None:
            details = PromptTokenUsageInfo(cached_tokens=sum(self.cached.values()))
        if self.reasoning_tokens is not None:
            spent = CompletionTokenUsageInfo(reasoning_tokens=self.reasoning_tokens)
        return UsageInfo(
            prompt_tokens=self.prompt_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            completion_tokens=self.completion_tokens,
            prompt_tokens_details=details,
            completion_tokens_details=spent,
        )


class UsageChunks:
    """When a stream tells its usage: on a chunk of its own at the end, and on every chunk when asked for both."""

    def __init__(self, count: UsageCount, stream: bool, options: StreamOptions | None, force: bool) -> None:
        self.count = count
        # A whole answer is folded from the chunks, its usage too.
        self.at_end = not stream or force or bool(options and options.include_usage)
        self.on_each = stream and self.at_end and bool(options and options.continuous_usage_stats)

    def so_far(self) -> dict[str, Any]:
        """The `usage` of one more chunk, if it has one."""
        return {"usage": self.count.info()} if self.on_each else {}
