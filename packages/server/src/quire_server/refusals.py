"""Which fields of a request do not take effect yet, each with its reason: one table, and the function that reads it.

A field is honoured, refused here, or reported in the answer; never dropped in silence. The table only shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from quire_engine.errors import RequestError

_CONSTRAINTS = "constrained outputs are not built yet; ask for the format in the prompt"
_BEAMS = "beam search is not built yet; use n and a temperature for several answers"
_PROCESSORS = "custom logits processors are not built yet; logit_bias, bad_words and allowed_token_ids are"
_TRANSFER = "no KV connector is built yet; leave the field out"
_EXTENSIONS = "no extension is installed that would take these arguments; leave the field out"
_MULTIMODAL = "images, audio and video are not built yet; send text"
_TOOLS = "tool calls are not parsed yet; with tool_choice none the tools are shown to the model"

REFUSALS: Mapping[tuple[str, str], str] = {
    ("ChatCompletionRequest", "kv_transfer_params"): _TRANSFER,
    ("ChatCompletionRequest", "length_penalty"): _BEAMS,
    ("ChatCompletionRequest", "logits_processors"): _PROCESSORS,
    ("ChatCompletionRequest", "mm_processor_kwargs"): _MULTIMODAL,
    ("ChatCompletionRequest", "response_format"): _CONSTRAINTS,
    ("ChatCompletionRequest", "structured_outputs"): _CONSTRAINTS,
    ("ChatCompletionRequest", "tool_choice"): _TOOLS,
    ("ChatCompletionRequest", "use_beam_search"): _BEAMS,
    ("ChatCompletionRequest", "vllm_xargs"): _EXTENSIONS,
    ("CompletionRequest", "kv_transfer_params"): _TRANSFER,
    ("CompletionRequest", "length_penalty"): _BEAMS,
    ("CompletionRequest", "logits_processors"): _PROCESSORS,
    ("CompletionRequest", "prompt_embeds"): "embedded prompts are not built yet; send text or token ids in prompt",
    ("CompletionRequest", "response_format"): _CONSTRAINTS,
    ("CompletionRequest", "structured_outputs"): _CONSTRAINTS,
    ("CompletionRequest", "use_beam_search"): _BEAMS,
    ("CompletionRequest", "vllm_xargs"): _EXTENSIONS,
    ("GenerateRequest", "features"): _MULTIMODAL,
    ("GenerateRequest", "kv_transfer_params"): _TRANSFER,
    ("TokenizeChatRequest", "mm_processor_kwargs"): _MULTIMODAL,
}
"""(model, field) → why a request that sets the field is refused."""

ACCEPTED: Mapping[tuple[str, str], str] = {
    ("ChatCompletionRequest", "include_reasoning"): "no reasoning is parsed, so there is none to leave out",
    ("ChatCompletionRequest", "parallel_tool_calls"): "no tool call is parsed, so there are never several",
    ("ChatCompletionRequest", "user"): "says who asks; nothing here depends on it",
    ("CompletionRequest", "user"): "says who asks; nothing here depends on it",
}
"""(model, field) → why any value is fine, though nothing reads it."""

_HONOURED: Mapping[tuple[str, str], Callable[[Any], bool]] = {
    ("ChatCompletionRequest", "response_format"): lambda value: value.type == "text",
    ("CompletionRequest", "response_format"): lambda value: value.type == "text",
}
"""Values of refused fields that ask for nothing that is missing."""

_EMPTY: tuple[object, ...] = (None, "", [], {}, ())


def refuse_fields_not_built(request: BaseModel) -> None:
    """RequestError with the reason, for a field that is set to something and would take no effect."""
    model = type(request)
    for name, field in model.model_fields.items():
        reason = REFUSALS.get((model.__name__, name))
        if reason is None:
            continue
        value = getattr(request, name)
        honoured = _HONOURED.get((model.__name__, name))
        unset = value in _EMPTY or value == field.get_default(call_default_factory=True)
        if not unset and not (honoured and honoured(value)):
            raise RequestError(f"{name} is not supported here: {reason}.", param=name)
