"""What an answer cost in tokens, and whether a stream tells it."""

from quire_protocol.base import OpenAIBaseModel
from quire_protocol.problems import field_error


class PromptTokenUsageInfo(OpenAIBaseModel):
    """Where the prompt's tokens came from."""

    cached_tokens: int | None = None
    """Prompt tokens whose keys and values were in the prefix cache."""


class CompletionTokenUsageInfo(OpenAIBaseModel):
    """What the answers' tokens were spent on."""

    reasoning_tokens: int = 0
    """Tokens of reasoning, without the marks around it."""


class UsageInfo(OpenAIBaseModel):
    """Tokens of a request and its answers, all choices together."""

    prompt_tokens: int = 0
    """Tokens of the prompt."""
    total_tokens: int = 0
    """Tokens of prompt and answers."""
    completion_tokens: int | None = 0
    """Tokens of the answers."""
    prompt_tokens_details: PromptTokenUsageInfo | None = None
    """Where the prompt's tokens came from, when the server is set to tell."""
    completion_tokens_details: CompletionTokenUsageInfo | None = None
    """What the answers' tokens were spent on, when the server tells reasoning apart."""


class PerRequestMetrics(OpenAIBaseModel):
    """How long an answer took, where that was asked for; null where it did not come as far."""

    time_to_first_token_ms: float | None = None
    """Milliseconds from the request's arrival to its first token, time in line included."""
    generation_time_ms: float | None = None
    """Milliseconds from the first token to the last."""
    queue_time_ms: float | None = None
    """Milliseconds in line."""
    mean_itl_ms: float | None = None
    """Mean milliseconds from a token to the next."""
    tokens_per_second: float | None = None
    """Tokens of all choices, by the time from the line to the last token."""


class RequestResponseMetadata(OpenAIBaseModel):
    """What a server remembers of a request beside its answer."""

    request_id: str
    """The request's id."""
    final_usage_info: UsageInfo | None = None
    """What the request cost, once it has been answered."""


class StreamOptions(OpenAIBaseModel):
    """What a stream tells beside the answer."""

    include_usage: bool | None = True
    """End the stream with a chunk that has the usage and no choices."""
    continuous_usage_stats: bool | None = False
    """Put the usage so far on every chunk; needs `include_usage`."""


def check_stream_options(options: StreamOptions | None, stream: bool | None) -> None:
    """The error of options that say how to stream where nothing is streamed; empty ones say nothing."""
    if options and options.model_fields_set and not stream:
        problem = "say how to stream: set stream to true as well, or leave them out."
        raise field_error("stream_options", problem, options)
