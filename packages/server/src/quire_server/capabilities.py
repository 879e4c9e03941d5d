"""What this server honours and how far, read from the very tables by which it refuses, reads and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel

import quire_protocol
from quire_engine.text.formats.reasoning import REASONING_FORMATS
from quire_engine.text.formats.tools import TOOL_FORMATS
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ERROR_REASONS,
    Capabilities,
    FormatCapabilities,
    RequestCapabilities,
    ResponseFormat,
    StructuralTagResponseFormat,
)
from quire_protocol.sampling import CONSTRAINTS
from quire_server.__about__ import __version__
from quire_server.dependencies import Serving
from quire_server.formats import Named
from quire_server.refusals import fields_without_effect, refused_fields

LIMIT = re.compile(r"max_\w+|timeout_\w+|request_timeout|stream_grace|vocab_size")
"""What the fields of Decisions and ServerSettings that are limits are called."""

_SCHEMA = re.compile(r"#/components/schemas/(\w+)")


def capabilities(serving: Serving, document: Mapping[str, Any]) -> Capabilities:
    """What `serving` honours. `document` is the application's own OpenAPI document, which has its routes."""
    tokenizer, answers = serving.engine.tokenizer, serving.answers
    paths = document["paths"]
    return Capabilities(
        version=__version__,
        models=list(serving.names),
        routes={path: sorted(map(str.upper, methods)) for path, methods in paths.items()},
        requests={model.__name__: _of_request(model, tokenizer) for model in _requests(paths)},
        unknown_fields=serving.settings.unknown_fields,
        response_formats=[] if answers is None else _response_formats(),
        structured_outputs=[] if answers is None else list(CONSTRAINTS),
        tool_calls=_formats(None if answers is None else answers.tools, TOOL_FORMATS),
        reasoning=_formats(None if answers is None else answers.reasoning, REASONING_FORMATS),
        extra_arguments=sorted(serving.engine.decisions.xargs),
        limits=_limits(serving.engine.decisions) | _limits(serving.settings),
        error_reasons=dict(ERROR_REASONS),
    )


def _requests(paths: Mapping[str, Any]) -> list[type[BaseModel]]:
    """The models of all bodies that the routes take, in their order."""
    bodies = [method.get("requestBody", "") for methods in paths.values() for method in methods.values()]
    names = dict.fromkeys(_SCHEMA.findall(str(bodies)))
    return [getattr(quire_protocol, name) for name in names]


def _of_request(model: type[BaseModel], tokenizer: Tokenizer | None) -> RequestCapabilities:
    refused = refused_fields(model)
    idle = fields_without_effect(model, tokenizer)
    honoured = [name for name in model.model_fields if name not in refused and name not in idle]
    return RequestCapabilities(honoured=honoured, refused=refused, without_effect=idle)


def _response_formats() -> list[str]:
    kinds = (ResponseFormat, StructuralTagResponseFormat)
    return [name for kind in kinds for name in get_args(kind.model_fields["type"].annotation)]


def _formats(used: Named | None, known: Iterable[Named]) -> FormatCapabilities:
    return FormatCapabilities(used=None if used is None else used.name, known=sorted({each.name for each in known}))


def _limits(asked: BaseModel) -> dict[str, float | int | None]:
    return {name: getattr(asked, name) for name in type(asked).model_fields if LIMIT.fullmatch(name)}
