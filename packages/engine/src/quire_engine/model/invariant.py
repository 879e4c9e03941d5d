"""Products whose result for a row does not depend on the rows beside it. It knows torch's functions, no model.

A library multiplies few rows otherwise than many: it sums in another order, and the last bits differ. Here every
product with a weight is made of products of the same shape, blocks of rows padded to one size, so that what happens to
a row is always the same. Attention, norms and routed experts keep a fixed order by themselves. After He et al. 2025
(Defeating Nondeterminism in LLM Inference).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from quire_engine.model.embeds import GivenRows
from quire_engine.model.forward import Forward
from quire_engine.model.seam import Pass

ROWS: Mapping[str, int] = {"cpu": 32, "cuda": 128}
"""Rows of a block: on CUDA as many as a weight's way from memory pays for; on a CPU they cost more."""


MATMULS = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)


class InvariantForward:
    """A model whose products are all made of blocks of rows."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def logits(
        self, ids: Tensor, positions: Tensor, rows: Tensor, quire: Pass, given: GivenRows | None = None
    ) -> Tensor:
        """[R, V]: as the model's."""
        with BlocksOfRows():
            return self._forward.logits(ids, positions, rows, quire, given)

    def logits_in_parts(
        self, ids: Tensor, positions: Tensor, parts: list[Tensor], quire: Pass, given: GivenRows | None = None
    ) -> Iterator[Tensor]:
        """As the model's."""
        several = self._forward.logits_in_parts(ids, positions, parts, quire, given)
        for _ in parts:
            with BlocksOfRows():
                part = next(several)
            yield part
        next(several, None)  # lets it put back what it changed


class BlocksOfRows(TorchFunctionMode):
    """While it lasts, `linear`, `addmm`, and `matmul` with a matrix multiply blocks of rows of one size."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace these, leave everything else."""
        if func is functional.linear:
            x, weight, *bias = args
            return in_blocks(lambda rows: func(rows, weight, *bias, **(kwargs or {})), x)
        if func is torch.addmm:
            bias, x, weight = args
            return in_blocks(lambda rows: func(bias, rows, weight, **(kwargs or {})), x)
        if func in MATMULS and args[1].dim() == 2:
            x, weight = args
            return in_blocks(lambda rows: func(rows, weight), x)
        return func(*args, **(kwargs or {}))


def in_blocks(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A product [block, K] -> [block, N] over all rows of x [..., K]; the last block is filled up with zeros."""
    rows, size = x.reshape(-1, x.shape[-1]), ROWS[x.device.type]
    padded = functional.pad(rows, (0, 0, 0, -len(rows) % size))
    blocks = [product(block) for block in torch.split(padded, size)]
    whole = torch.cat(blocks) if len(blocks) != 1 else blocks[0]
    return whole[: len(rows)].view(*x.shape[:-1], whole.shape[-1])
