"""Attention by Quire's own kernel, which picks its body for the device at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from quire_engine.attention.base import Layout
from quire_kernels import paged_attention


@dataclass(frozen=True, slots=True)
class PagedBackend:
    """`quire_kernels.paged_attention`: reads blocks in place, any mix of spans."""

    name: ClassVar[str] = "paged"
    invariant: ClassVar[bool] = False
    """Whether a row's sums are made in one order, whatever is computed beside it."""
    layout: Layout

    @classmethod
    def plan(cls, layout: Layout) -> Self:
        """Nothing to prepare: the kernel reads the layout as it is."""
        return cls(layout)

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
        """One call of the kernel; shapes as in AttentionBackend."""
        layout = self.layout
        return paged_attention(
            q,
            keys,
            values,
            layout.tables,
            layout.starts,
            layout.lengths,
            scale=scale,
            window=window,
            softcap=softcap,
            sinks=sinks,
            max_query=layout.longest_span,
            max_length=layout.longest_context,
            invariant=self.invariant,
        )


class InvariantPagedBackend(PagedBackend):
    """The same in a fixed order of sums, at some cost."""

    name: ClassVar[str] = "paged-invariant"
    invariant: ClassVar[bool] = True
