"""How large a request's values may be: the bound of every number, list and short string, by its field's name.

These bounds are a net, not the rules of a field: wide enough for any honest request, so that nothing behind them meets
a number it cannot represent or a list that takes minutes. What a field means is checked where it is understood. Free
text, base64 and data URIs have no bound here, since the size of the body bounds them; neither have openai's own types
inside a Responses request, nor fields that no schema knows.
"""

import sys
from collections.abc import Mapping, Sized
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from math import inf
from typing import Any

from pydantic import BaseModel

from quire_protocol.problems import Path, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What values under one name may be; each part bounds the values of one kind, wherever in the field they are."""

    low: float = 0
    """The smallest number."""
    high: float = 0
    """The largest number."""
    text: float = 0
    """The most characters of a string; infinite for free text, base64 and data URIs."""
    items: int = 0
    """The most entries of a list or an object."""
    free: bool = False
    """An object here is the caller's own JSON: its entries, depth and finite numbers are all there is to check."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bound of each field by its name, and how deep the caller's own JSON may be nested."""

    bounds: Mapping[str, Bound]
    depth: int = 64

    def but(self, **bounds: Bound) -> "Limits":
        """These limits with some bounds replaced, as in `DEFAULT_LIMITS.but(n=Bound(low=1, high=16))`."""
        return replace(self, bounds={**self.bounds, **bounds})


class LimitError(ValueError):
    """A value is beyond its bound. `param` is its dotted path in the request, `limit` the bound that it passed."""

    def __init__(self, path: Path, problem: str, limit: float) -> None:
        self.param = ".".join(map(str, path))
        self.limit = limit
        super().__init__(f"{self.param} must {problem}.")


_MOST = 65_536
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

WORD = Bound(text=256)  # true, false, or one of a few words
NAME = Bound(text=1024)  # looked up or compared: a name, an id
PATTERN = Bound(text=_MOST)  # compiled: a regular expression, a grammar, a template
TEXT = Bound(text=inf)
COUNT = Bound(low=-1, high=_INT32)  # of tokens, mostly: more than any context has
FACTOR = Bound(low=-1e6, high=1e6)
INTEGER = Bound(low=-_INT64 - 1, high=_INT64)
TOKENS = Bound(low=0, high=_INT32, items=2**22)
VOCABULARY = Bound(low=0, high=_INT32, items=2**19)  # tokens named once each: more than any vocabulary has
OBJECT = Bound(text=1024, items=1024)  # with fields of its own
OBJECTS = Bound(items=_MOST)
JSON = Bound(low=-sys.float_info.max, high=sys.float_info.max, text=inf, items=_MOST, free=True)

DEFAULT_LIMITS = Limits(
    {
        # what is asked of which model
        "model": NAME,
        "user": NAME,
        "request_id": NAME,
        "request_ids": Bound(text=1024, items=_MOST),
        "cache_salt": NAME,
        "previous_response_id": NAME,
        "lora_name": NAME,
        "lora_path": Bound(text=4096),
        "lora_int_id": COUNT,
        "priority": INTEGER,
        "stream": WORD,
        "stream_options": OBJECT,
        "include": Bound(text=256, items=64),
        "service_tier": WORD,
        "truncation": WORD,
        "metadata": JSON,
        "vllm_xargs": JSON,
        "extra_args": JSON,
        "kv_transfer_params": JSON,
        "mm_processor_kwargs": JSON,
        # how tokens are chosen
        "temperature": FACTOR,
        "top_p": FACTOR,
        "min_p": FACTOR,
        "presence_penalty": FACTOR,
        "frequency_penalty": FACTOR,
        "repetition_penalty": FACTOR,
        "length_penalty": FACTOR,
        "n": Bound(low=0, high=16_384),
        "beam_width": Bound(low=0, high=16_384),
        "beam_search": OBJECT,
        "top_k": COUNT,
        "seed": INTEGER,
        "max_tokens": COUNT,
        "max_completion_tokens": COUNT,
        "max_output_tokens": COUNT,
        "max_tool_calls": COUNT,
        "min_tokens": COUNT,
        "truncate_prompt_tokens": COUNT,
        "logprobs": COUNT,
        "top_logprobs": COUNT,
        "prompt_logprobs": COUNT,
        "stop": Bound(text=4096, items=256),
        "stop_token_ids": VOCABULARY,
        "allowed_token_ids": VOCABULARY,
        "bad_words": Bound(text=256, items=4096),
        "bad_words_token_ids": TOKENS,
        "logit_bias": Bound(low=-1e6, high=1e6, items=2**20, free=True),
        "logits_processors": OBJECT,
        "qualname": NAME,
        "args": JSON,
        "kwargs": JSON,
        # what form the answer has
        "response_format": OBJECT,
        "structured_outputs": OBJECT,
        "json_schema": JSON,
        "structural_tag_schema": JSON,
        "json": JSON,
        "regex": PATTERN,
        "grammar": PATTERN,
        "whitespace_pattern": PATTERN,
        "choice": Bound(text=inf, items=_MOST),
        "structural_tag": TEXT,
        "format": JSON,
        "structures": OBJECTS,
        "triggers": Bound(text=4096, items=_MOST),
        "begin": TEXT,
        "end": TEXT,
        "text": TEXT,
        "tools": OBJECTS,
        "tool_choice": OBJECT,
        "function": OBJECT,
        "parameters": JSON,
        "description": TEXT,
        "strict": WORD,
        "reasoning": TEXT,
        "reasoning_effort": WORD,
        "thinking_token_budget": COUNT,
        # prompts
        "prompt": Bound(low=0, high=_INT32, text=inf, items=2**22),
        "prompt_embeds": Bound(text=inf, items=_MOST),
        "token_ids": TOKENS,
        "tokens": TOKENS,
        "features": TEXT,
        "suffix": TEXT,
        "instructions": TEXT,
        "input": JSON,
        "previous_input_messages": JSON,
        "documents": JSON,
        "chat_template": PATTERN,
        "chat_template_kwargs": JSON,
        # messages and the parts of their content
        "messages": OBJECTS,
        "role": NAME,
        "name": NAME,
        "content": Bound(text=inf, items=_MOST),
        "refusal": TEXT,
        "thinking": TEXT,
        "reasoning_content": TEXT,
        "tool_calls": OBJECTS,
        "tool_call_id": NAME,
        "function_call": OBJECT,
        "arguments": JSON,
        "audio": OBJECT,
        "id": NAME,
        "type": WORD,
        "uuid": NAME,
        "url": TEXT,
        "detail": WORD,
        "image_url": Bound(text=inf, items=64),
        "audio_url": Bound(text=inf, items=64),
        "video_url": Bound(text=inf, items=64),
        "input_audio": OBJECT,
        "data": TEXT,
        "image_embeds": JSON,
        "audio_embeds": JSON,
        "file": OBJECT,
        "file_data": TEXT,
        "file_id": NAME,
        "filename": NAME,
        # speech
        "language": NAME,
        "to_language": NAME,
        "timestamp_granularities": Bound(text=256, items=64),
    }
)


def check_limits(request: BaseModel, limits: Limits = DEFAULT_LIMITS) -> None:
    """Compare every value that was set in a request with its bound. LimitError at the first one beyond it."""
    _check_model(request, limits, ())


def _check_model(model: Any, limits: Limits, path: Path) -> None:
    given = model.model_fields_set if isinstance(model, BaseModel) else None
    for name, wire_name in _fields(model.__class__):
        if given is None or name in given:
            _check(getattr(model, name), limits.bounds.get(name, JSON), limits, path, wire_name)


def _check(value: Any, bound: Bound, limits: Limits, path: Path, step: int | str) -> None:
    """Compare one value, which is at `step` of `path`. The way is put together only where it goes on or is told."""
    match value:
        case str():
            if len(value) > bound.text:
                problem = f"be at most {bound.text} characters long, got {len(value)}"
                raise LimitError((*path, step), problem, bound.text)
        case None | bool():
            pass
        case int() | float():
            _check_number(value, bound, path, step)
        case dict():
            path = (*path, step)
            _check_size(value, bound, limits, path)
            for key, item in value.items():
                inner = bound if bound.free else limits.bounds.get(key, JSON)
                if type(item) is not str or len(item) > inner.text:  # short texts are most of what there is
                    _check(item, inner, limits, path, key)
        case list() | tuple():
            path = (*path, step)
            _check_size(value, bound, limits, path)
            if value and type(value[0]) is int and not bound.free:  # ids, as its field has it: perhaps a million
                for extreme in (min(value), max(value)):
                    _check_number(extreme, bound, path, value.index(extreme))
            else:
                for index, item in enumerate(value):
                    _check(item, bound, limits, path, index)
        case _:
            _check_model(value, limits, (*path, step))


def _check_number(value: float, bound: Bound, path: Path, step: int | str) -> None:
    if bound.low <= value <= bound.high:
        return
    limit = bound.low if value < bound.low else bound.high
    allowed = f"a number between {shown(bound.low)} and {shown(bound.high)}"
    if value != value or value in (inf, -inf):
        allowed = "a finite number"
    raise LimitError((*path, step), f"be {allowed}, got {shown(value)}", limit)


def _check_size(value: Sized, bound: Bound, limits: Limits, path: Path) -> None:
    if len(value) > bound.items:
        raise LimitError(path, f"have at most {bound.items} entries, got {len(value)}", bound.items)
    if len(path) > limits.depth:
        raise LimitError(path[:1], f"be nested at most {limits.depth} deep", limits.depth)


@cache
def _fields(kind: type) -> tuple[tuple[str, str], ...]:
    """A class's fields, by their own names and by those on the wire; none where it has none or is openai's."""
    if kind.__module__.partition(".")[0] == "openai":
        return ()
    if issubclass(kind, BaseModel):
        return tuple((name, field.alias or name) for name, field in kind.model_fields.items())
    return tuple((field.name, field.name) for field in fields(kind)) if is_dataclass(kind) else ()
