"""The tensors that hold keys and values, and their shape. It does not know which block belongs to whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

MENDED = 256
"""Blocks that are looked at together for what is no number."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer stores for a token."""

    heads: int
    """Key/value heads."""
    key_size: int
    """Elements of one head's key."""
    value_size: int
    """Elements of one head's value."""

    @property
    def elements(self) -> int:
        """Elements stored for one token."""
        return self.heads * (self.key_size + self.value_size)


@dataclass(frozen=True, slots=True)
class KVCache:
    """Keys and values of every layer, in blocks. The kernels change them in place, through the seam."""

    keys: tuple[Tensor, ...]
    """Per layer [blocks, block, heads, key_size]."""
    values: tuple[Tensor, ...]
    """Per layer [blocks, block, heads, value_size]."""

    @classmethod
    def allocate(
        cls, layers: tuple[LayerShape, ...], blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> KVCache:
        """Zeroed: a row nobody wrote must still be a number, for kernels that read it and mask it afterwards.

        On a CPU a head's rows of a block lie side by side, as one stretch of memory: attention, which walks one head's
        keys at a time, then reads 1.2 to 2 times as fast.
        """

        def zeros(heads: int, size: int) -> Tensor:
            if device.type == "cpu":
                return _zeros((blocks, heads, block_size, size), dtype, device).transpose(1, 2)
            return _zeros((blocks, block_size, heads, size), dtype, device)

        return cls(
            keys=tuple(zeros(layer.heads, layer.key_size) for layer in layers),
            values=tuple(zeros(layer.heads, layer.value_size) for layer in layers),
        )

    def copy_blocks(self, sources: Tensor, targets: Tensor) -> None:
        """Overwrite blocks with other ones in every layer: both [n] int64, no target twice."""
        for tensor in (*self.keys, *self.values):
            tensor[targets] = tensor[sources]

    def mend(self, blocks: Sequence[int]) -> list[int]:
        """Write zeros over those of these blocks that hold what is no finite number, in any layer; which those were.

        A copy is looked at, MENDED of them at a time: where something is wrong, memory may be short too.
        """
        return [bad for first in range(0, len(blocks), MENDED) for bad in self._mend(blocks[first : first + MENDED])]

    def _mend(self, blocks: Sequence[int]) -> list[int]:
        at = torch.tensor(blocks, dtype=torch.int64, device=self.keys[0].device)
        is_bad = torch.zeros(len(blocks), dtype=torch.bool, device=at.device)
        for tensor in (*self.keys, *self.values):
            is_bad |= ~tensor[at].isfinite().flatten(1).all(1)
        bad = at[is_bad]
        for tensor in (*self.keys, *self.values):
            tensor[bad] = 0
        return cast("list[int]", bad.tolist())


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on a CPU, pages of them that take no memory and no time before they are first written (numpy's calloc)."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)
