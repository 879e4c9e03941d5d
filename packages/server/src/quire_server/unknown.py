"""What follows for the fields of a request that nothing here knows: told, refused or passed over. It knows no HTTP."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from quire_engine.errors import RequestError
from quire_protocol import ChatCompletionRequest, CompletionRequest, GenerateRequest, unknown_fields

Policy: TypeAlias = Literal["warn", "refuse", "ignore"]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A field of a request that nothing here knows, and what to say of it."""

    path: str
    problem: str = "is not a field here"
    hint: str | None = None
    """What was probably meant."""


def strangers(request: BaseModel, xargs: Collection[str]) -> list[Stranger]:
    """Every such field, extra arguments among them that are not `xargs`, those that an extension takes."""
    unknown = [Stranger(path, hint=hint) for path, hint in unknown_fields(request).items()]
    field, given = _extra_arguments(request)
    untaken = [Stranger(f"{field}.{name}", "is taken by no extension here") for name in given if name not in xargs]
    return unknown + untaken


def judged(found: Iterable[Stranger], policy: Policy, *, strict: bool) -> tuple[str, ...]:
    """A sentence for each field that goes without effect and is to be told; RequestError for one that is refused.

    What was probably meant for something is never passed over, as its effect would be missing. `strict` is the client's
    wish, which stands above the server's policy.
    """
    told = []
    for each in found:
        if each.hint is not None:
            raise RequestError(f"{each.path} {each.problem}: {each.hint.removesuffix('.')}.", param=each.path)
        if strict or policy == "refuse":
            whose = "the request asks for strict handling" if strict else "this server refuses what it does not know"
            raise RequestError(f"{each.path} {each.problem}, and {whose}: leave it out.", param=each.path)
        told.append(f"{each.path} {each.problem}: it had no effect.")
    return () if policy == "ignore" else tuple(told)


def _extra_arguments(request: BaseModel) -> tuple[str, Mapping[str, Any]]:
    """Where a request has its arguments for extensions, and which they are."""
    if isinstance(request, ChatCompletionRequest | CompletionRequest):
        return "vllm_xargs", request.vllm_xargs or {}
    if isinstance(request, GenerateRequest):
        return "sampling_params.extra_args", request.sampling_params.extra_args or {}
    return "", {}
