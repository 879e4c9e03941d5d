"""Which fields of a request do not take effect yet, each with its reason: two tables, and the functions that read them.

A field is honoured, refused here, or reported in the answer; never dropped in silence. The tables only shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import BaseModel

from quire_engine.errors import RequestError
from quire_engine.text.tokenizer import Tokenizer
from quire_server.idle import idle_fields

_TRANSFER = "no KV connector is built yet; leave the field out"
_MULTIMODAL = "images, audio and video are not built yet; send text"
_SPACES = "this model's tokenizer puts none there by itself"

_UNREAD = "the chat template does not read it"

REFUSALS: Mapping[tuple[str, str], str] = {
    ("ChatCompletionRequest", "kv_transfer_params"): _TRANSFER,
    ("ChatCompletionRequest", "mm_processor_kwargs"): _MULTIMODAL,
    ("CompletionRequest", "kv_transfer_params"): _TRANSFER,
    ("GenerateRequest", "features"): _MULTIMODAL,
    ("GenerateRequest", "kv_transfer_params"): _TRANSFER,
    ("TokenizeChatRequest", "mm_processor_kwargs"): _MULTIMODAL,
}
"""(model, field) → why a request that sets the field is refused."""

REPORTS: Mapping[tuple[str, str], str] = {
    ("ChatCompletionRequest", "spaces_between_special_tokens"): _SPACES,
    ("CompletionRequest", "spaces_between_special_tokens"): _SPACES,
}
"""(model, field) → why a request that sets the field is answered all the same, and told that it had no effect."""

_UNLESS: Mapping[str, Callable[[Tokenizer], bool]] = {
    "spaces_between_special_tokens": lambda tokenizer: tokenizer.spaces_special_tokens
}
"""Fields of REPORTS that do take effect with some tokenizers."""

_EMPTY: tuple[object, ...] = (None, "", [], {}, ())


def refuse_fields_not_built(request: BaseModel) -> None:
    """RequestError with the reason, for a field that is set to something and would take no effect."""
    for name, reason in _set_fields(request, refused_fields(type(request))):
        raise RequestError(f"{name} is not supported here: {reason}.", param=name)


def report_fields_without_effect(
    request: BaseModel,
    tokenizer: Tokenizer | None,
    *,
    unread: Iterable[str] = (),
    strict: bool,
    **server: bool,
) -> tuple[str, ...]:
    """A sentence for each field that is set to something and changes nothing; RequestError if that is not wanted.

    `unread` are those that the chat template does not look at; what idle_fields() takes of the `server` goes there.
    """
    warnings = []
    idle = idle_fields(request, **server)
    never = fields_without_effect(type(request), tokenizer)
    for name, reason in (*_set_fields(request, never), *idle, *((name, _UNREAD) for name in unread)):
        if strict:
            problem = f"{name} has no effect here, and the request asks for strict handling: {reason}. Leave it out."
            raise RequestError(problem, param=name)
        warnings.append(f"{name} had no effect: {reason}.")
    return tuple(warnings)


def refused_fields(model: type[BaseModel]) -> dict[str, str]:
    """The fields of REFUSALS that this model has, each with the reason."""
    return {name: reason for (owner, name), reason in REFUSALS.items() if owner == model.__name__}


def fields_without_effect(model: type[BaseModel], tokenizer: Tokenizer | None) -> dict[str, str]:
    """The fields of REPORTS that change nothing with this tokenizer, each with the reason."""
    return {
        name: reason
        for (owner, name), reason in REPORTS.items()
        if owner == model.__name__ and not (tokenizer is not None and name in _UNLESS and _UNLESS[name](tokenizer))
    }


def _set_fields(request: BaseModel, reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of these fields that ask for something in a request, each with its reason."""
    for name, reason in reasons.items():
        value, field = getattr(request, name), type(request).model_fields[name]
        if value not in _EMPTY and value != field.get_default(call_default_factory=True):
            yield name, reason
