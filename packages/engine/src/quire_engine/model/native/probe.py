"""Passes that show whether two ways to compute a model agree: packed prompts, cut ones, far positions, embeddings.

Far positions cost next to nothing: a block table may name the same few blocks over and over, so that a sequence of a
hundred thousand tokens lies in four blocks. Keys beyond the window differ from those within, so that a window that is
not kept shows; and every way fills the blocks itself, in the order of elements that it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quire_engine.attention import Layout
from quire_engine.attention.paged import PagedBackend
from quire_engine.kv.cache import KVCache, LayerShape
from quire_engine.model.embeds import GivenRows
from quire_engine.model.forward import Forward
from quire_engine.model.seam import Pass

BLOCK = 16
BLOCKS = 8
FARTHEST = 1 << 17
"""Tokens."""
NEAR, INSIDE = (0, 1), (2, 3)
"""Blocks of the two prompts that the first pass computes: what far keys lie beyond the window in, and within."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one sequence."""

    start: int
    length: int
    blocks: tuple[int, ...]
    """The sequence's table."""


def parts_of(*, context: int, window: int) -> tuple[tuple[Part, ...], ...]:
    """The spans of each pass, for a model of this context whose longest window is this; 0: none."""
    whole = 2 * BLOCK
    far = (min(context, FARTHEST) // BLOCK - 1) * BLOCK
    if far <= whole:  # a context too short to be far
        return ((Part(0, BLOCK, NEAR), Part(0, whole - 5, INSIDE)), (Part(whole - 5, 4, INSIDE), Part(0, 5, (6,))))
    inside = min(-(-(window or far // 2) // BLOCK), far // BLOCK)
    table = _repeated(NEAR, far // BLOCK - inside) + _repeated(INSIDE, inside)
    return (
        (Part(0, whole, NEAR), Part(0, whole, INSIDE)),
        (Part(far, 3, (*table, 5)), Part(whole, 1, (*INSIDE, 4)), Part(0, 5, (6,))),
    )


def _repeated(blocks: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (blocks * (count // len(blocks) + 1))[:count]


class Probe:
    """The passes for one model; `run` computes them one way."""

    def __init__(
        self, layers: tuple[LayerShape, ...], *, hidden: int, vocab: int, context: int, window: int, embeds: bool
    ) -> None:
        """`embeds`: one more pass, whose first rows are embeddings."""
        generator = torch.Generator().manual_seed(0)
        self._layers = layers
        self._passes = [self._drawn(parts, vocab, generator) for parts in parts_of(context=context, window=window)]
        self._given = GivenRows(torch.arange(3), torch.randn(3, hidden, generator=generator)) if embeds else None

    @staticmethod
    def _drawn(parts: tuple[Part, ...], vocab: int, generator: torch.Generator) -> tuple[Tensor, tuple[Part, ...]]:
        return torch.randint(vocab, (sum(part.length for part in parts),), generator=generator), parts

    @torch.inference_mode()
    def run(self, forward: Forward, dtype: torch.dtype) -> Tensor:
        """[rows, V] float32: the logits of all rows of all passes."""
        cache = KVCache.allocate(self._layers, BLOCKS, BLOCK, dtype, torch.device("cpu"))
        return torch.cat([*self._logits(forward, cache)]).float()

    def _logits(self, forward: Forward, cache: KVCache) -> Iterator[Tensor]:
        for ids, parts in self._passes:
            yield self._one(forward, cache, ids, parts, None)
        if self._given is not None:
            yield self._one(forward, cache, self._passes[0][0][:6], (Part(0, 6, (7,)),), self._given)

    @staticmethod
    def _one(forward: Forward, cache: KVCache, ids: Tensor, parts: tuple[Part, ...], given: GivenRows | None) -> Tensor:
        width = max(len(part.blocks) for part in parts)
        tables = torch.tensor([(*part.blocks, *(0,) * (width - len(part.blocks))) for part in parts])
        lengths = torch.tensor([part.length for part in parts])
        positions = torch.cat([torch.arange(part.start, part.start + part.length) for part in parts])
        owners = torch.arange(len(parts)).repeat_interleave(lengths)
        slots = tables[owners, positions // BLOCK] * BLOCK + positions % BLOCK
        ends = [part.start + part.length for part in parts]
        layout = Layout(
            slots=slots,
            starts=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
            lengths=torch.tensor(ends).int(),
            tables=tables.int(),
            longest_span=int(lengths.max()),
            longest_context=max(ends),
        )
        quire = Pass(cache, layout.slots, PagedBackend.plan(layout))
        return forward.logits(ids, positions, torch.arange(len(ids)), quire, given)
