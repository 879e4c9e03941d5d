"""Which fields of a request change nothing because of what else it says, each with the reason. It refuses nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from quire_protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerateRequest,
    RequestOutputKind,
    SamplingParams,
    StreamOptions,
)

_OF_A_DRAW: Mapping[str, tuple[float, ...]] = {
    "temperature": (0, 1),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
}
"""Fields that say how to draw a token, each with the values that ask for nothing a search does not do."""

_NO_DRAW = "beam search goes by the model's own log-probabilities, without a draw"
_NO_TEXT = "the answer is token ids, whatever their text"


def idle_fields(
    request: BaseModel, *, forces_usage: bool = False, reads_calls: bool = True, tells_reasoning: bool = True
) -> Iterator[tuple[str, str]]:
    """The fields of a request that are set to something and change nothing, by their paths, each with the reason.

    `forces_usage` says that the server tells every stream's usage, asked or not; `reads_calls` and `tells_reasoning`,
    that it knows the formats of tool calls and of reasoning.
    """
    if isinstance(request, ChatCompletionRequest | CompletionRequest):
        yield from _of_text(request)
        if isinstance(request, ChatCompletionRequest):
            yield from _of_formats(request, reads_calls=reads_calls, tells_reasoning=tells_reasoning)
    elif isinstance(request, GenerateRequest):
        yield from _of_token_ids(request, request.sampling_params)
    else:
        return
    if not forces_usage:
        yield from _of_streams(request.stream_options)


def _of_text(request: ChatCompletionRequest | CompletionRequest) -> Iterator[tuple[str, str]]:
    longest = request.max_completion_tokens if isinstance(request, ChatCompletionRequest) else None
    if longest is not None and request.max_tokens not in (None, longest):
        yield "max_tokens", f"max_completion_tokens stands above it, and says {longest}"
    if request.use_beam_search:
        yield from _of_draws(request)
    elif request.length_penalty != 1:
        yield "length_penalty", "it is for beam search, and use_beam_search is not set"


def _of_formats(
    request: ChatCompletionRequest, *, reads_calls: bool, tells_reasoning: bool
) -> Iterator[tuple[str, str]]:
    if not reads_calls and request.tools and request.tool_choice == "auto":
        yield (
            "tool_choice",
            "calls of this model cannot be read, so they are text; --tool-call-parser names their format",
        )
    asked = request.response_format
    if asked is not None and asked.type != "text" and request.tool_choice not in (None, "auto", "none"):
        yield "response_format", "the answer has to be a call, as tool_choice says"
    if not tells_reasoning and not request.include_reasoning:
        yield "include_reasoning", "reasoning cannot be told apart; --reasoning-parser names its format"


def _of_token_ids(request: GenerateRequest, params: SamplingParams) -> Iterator[tuple[str, str]]:
    defaults = SamplingParams()
    for name in ("include_stop_str_in_output", "skip_special_tokens", "spaces_between_special_tokens"):
        # Where stop strings are looked for there is text, in which special tokens may or may not stand.
        is_read = bool(params.stop) and name != "include_stop_str_in_output"
        if getattr(params, name) != getattr(defaults, name) and not is_read:
            yield f"sampling_params.{name}", _NO_TEXT
    done = RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY
    if params.output_kind not in (defaults.output_kind, done):
        yield (
            "sampling_params.output_kind",
            "an event of a stream holds what is new, an answer at once holds everything",
        )
    if request.beam_search is not None:
        yield from _of_draws(params, "sampling_params.")
        if request.beam_search.temperature not in _OF_A_DRAW["temperature"]:
            yield "beam_search.temperature", _NO_DRAW


def _of_draws(asked: Any, path: str = "") -> Iterator[tuple[str, str]]:
    for name, neutral in _OF_A_DRAW.items():
        if getattr(asked, name) not in (None, *neutral):
            yield path + name, _NO_DRAW


def _of_streams(options: StreamOptions | None) -> Iterator[tuple[str, str]]:
    if options and options.continuous_usage_stats and not options.include_usage:
        yield "stream_options.continuous_usage_stats", "it needs include_usage, which is switched off"
