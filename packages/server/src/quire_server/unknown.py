"""What follows for the fields of a request that nothing here knows: told, refused or passed over. It knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from quire_engine.errors import RequestError

Policy: TypeAlias = Literal["warn", "refuse", "ignore"]


def judged(unknown: Mapping[str, str | None], policy: Policy, *, strict: bool) -> tuple[str, ...]:
    """A sentence for each field that goes without effect and is to be told; RequestError for one that is refused.

    `unknown` has each field's path, with what was probably meant: what is mistaken for something is never passed over,
    as its effect would be missing. `strict` is the client's wish, which stands above the server's policy.
    """
    for name, hint in unknown.items():
        if hint is not None:
            raise RequestError(f"{name} is not a field here: {hint.removesuffix('.')}.", param=name)
        if strict or policy == "refuse":
            whose = "the request asks for strict handling" if strict else "this server refuses what it does not know"
            raise RequestError(f"{name} is not a field here, and {whose}: leave it out.", param=name)
    return () if policy == "ignore" else tuple(f"{name} is not a field here: it had no effect." for name in unknown)
