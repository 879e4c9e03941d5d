"""What an attention backend is given and what it gives back. It knows no model and no request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rows of a packed pass belong to which sequence, and where that sequence's keys and values lie."""

    slots: Tensor
    """[T] int64: block * block_size + offset, where each row's key and value go."""
    starts: Tensor
    """[S + 1] int32: first row of each span; the last entry is T."""
    lengths: Tensor
    """[S] int32: keys the span's last row sees, its own included."""
    tables: Tensor
    """[S, blocks] int32: the sequence's blocks in order; entries past its length mean nothing."""
    longest_span: int
    """Rows of the longest span."""
    longest_context: int
    """The largest of `lengths`."""


class AttentionBackend(Protocol):
    """Causal attention of packed rows over paged keys and values: `plan` once per pass, then `attend` per layer."""

    name: ClassVar[str]

    @classmethod
    def plan(cls, layout: Layout) -> Self:
        """Do once per pass what every layer shares."""
        ...

    def attend(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        scale: float,
        window: int,
        softcap: float,
        sinks: Tensor | None,
    ) -> Tensor:
        """q [T, Hq, D]; keys [blocks, block, Hkv, D], values [blocks, block, Hkv, Dv] -> [T, Hq, Dv].

        `window` in tokens, 0 for none; `softcap` 0 for none; `sinks` [Hq], an extra logit per head in the denominator.
        """
        ...
