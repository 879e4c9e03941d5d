"""Fields of a request that no schema has: which there are, and what was probably meant. A server says what follows.

Nothing is dropped when a request is read: what a model does not know stays in its `model_extra`. Keys of messages and
of their content parts are no concern of this module: chat templates may read any, so an unknown one is not a mistake.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

KNOWN_MISTAKES: Mapping[str, str] = {
    # removed from vLLM
    "best_of": "ask for n answers and choose among them, or set use_beam_search with n beams",
    "early_stopping": "beam search always stops when no unfinished beam can win; leave it out",
    "guided_choice": "use structured_outputs.choice",
    "guided_decoding_backend": "the server settles how constraints are enforced; leave it out",
    "guided_grammar": "use structured_outputs.grammar",
    "guided_json": "use structured_outputs.json, or response_format with a json_schema",
    "guided_json_object": 'use response_format {"type": "json_object"}',
    "guided_regex": "use structured_outputs.regex",
    "guided_whitespace_pattern": "use structured_outputs.whitespace_pattern",
    "structural_tag": "use structured_outputs.structural_tag, or response_format with a structural_tag",
    # one level too high
    "choice": "use structured_outputs.choice",
    "enable_thinking": "use chat_template_kwargs.enable_thinking",
    "grammar": "use structured_outputs.grammar",
    "include_usage": "use stream_options.include_usage",
    "json_object": 'use response_format {"type": "json_object"}',
    "json_schema": "use response_format with a json_schema",
    "regex": "use structured_outputs.regex",
    "thinking": "use chat_template_kwargs",
    # arguments of the openai client, sent as they are
    "extra_body": "put what is in it at the top level; only the openai client does that by itself",
    "extra_headers": "send them as HTTP headers",
    "extra_query": "put them into the URL's query",
    # older OpenAI fields
    "function_call": "use tool_choice",
    "functions": "use tools",
    # what other systems call it
    "do_sample": "set temperature: 0 takes the likeliest token, more samples",
    "length_limit": "use max_tokens",
    "lora_name": "use model: adapters are served under a name of their own",
    "max_length": "use max_tokens, which counts the answer without the prompt",
    "max_new_tokens": "use max_tokens",
    "max_tokens_to_sample": "use max_tokens",
    "min_length": "use min_tokens, which counts the answer without the prompt",
    "min_new_tokens": "use min_tokens",
    "n_predict": "use max_tokens",
    "num_beams": "set use_beam_search, with the number of beams as n",
    "num_ctx": "the server's --max-model-len sets the context; leave it out",
    "num_predict": "use max_tokens",
    "num_return_sequences": "use n",
    "prompt_token_ids": "use prompt, which may be a list of token ids",
    "repeat_penalty": "use repetition_penalty",
    "sampling_params": "put what is in it at the top level",
    "stop_sequence": "use stop",
    "stop_sequences": "use stop",
    "stop_words": "use stop",
    "system": "put it first in messages, with the role system",
    "top_a": "there is no top-a sampling here; min_p is the nearest",
    "typical": "there is no typical sampling here; leave it out, or use top_p or min_p",
    "typical_p": "there is no typical sampling here; leave it out, or use top_p or min_p",
}
"""What to write instead of fields that people know from elsewhere or from earlier; each completes a sentence."""

_SIMILAR = 0.8  # how alike two names must be for one to be a misspelling of the other, from 0 to 1


def unknown_fields(request: BaseModel) -> dict[str, str | None]:
    """Every field of the request that no schema has, by its dotted path, with what to do about it where that is known.

    >>> unknown_fields(ChatCompletionRequest(messages=[], guided_regex="a+", repetion_penalty=1.1))
    {'guided_regex': 'use structured_outputs.regex', 'repetion_penalty': 'did you mean repetition_penalty?'}
    """
    return dict(_unknown(request, ""))


def _unknown(model: BaseModel, path: str) -> Iterator[tuple[str, str | None]]:
    for name in model.model_extra or ():
        yield path + name, _hint(name, type(model))
    for name in _fields_with_models(type(model)):
        yield from _unknown_within(getattr(model, name), f"{path}{_wire_name(type(model), name)}.")


def _unknown_within(value: object, path: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, BaseModel):
        yield from _unknown(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_within(item, f"{path}{index}.")


def _hint(name: str, model: type[BaseModel]) -> str | None:
    if name in model.model_fields:  # a field of Python's side, such as json_schema, whose name on the wire is another
        return f"use {_wire_name(model, name)}"
    if name in KNOWN_MISTAKES:
        return KNOWN_MISTAKES[name]
    known = [_wire_name(model, field) for field in model.model_fields]
    similar = get_close_matches(name.lower(), known, n=1, cutoff=_SIMILAR)
    return f"did you mean {similar[0]}?" if similar else None


def _wire_name(model: type[BaseModel], field: str) -> str:
    return model.model_fields[field].alias or field


@cache
def _fields_with_models(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a model that may hold models of this package, messages left out; all others need no look."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if name != "messages" and any(map(_is_ours, _parts(field.annotation)))
    )


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _is_ours(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and annotation.__module__.startswith(f"{__package__}.")
    )
