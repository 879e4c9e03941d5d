"""Attention for training on a CPU: plain products of matrices where samples are short. Knows no model.

PyTorch's CPU attention computes tile by tile, which saves memory that short samples do not need and keeps their
products from being one large one: at 182 tokens and 22 rows the plain form took 26 ms of processor time forward and
backward, the tiled one 75 (bfloat16, one thread of an EPYC with AVX-512; other work ran beside it).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "causal_rows"
"""What transformers calls it."""
SHORT = 768
"""Tokens up to which a row is short."""


def attend(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Causal attention within each row: q [R, Hq, L, D]; k, v [R, Hkv, L, D] -> [R, L, Hq, D]."""
    rows, heads, length, size = q.shape
    groups = heads // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if q.device.type != "cpu" or length > SHORT:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        return out.transpose(1, 2).contiguous(), None
    later = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
    q, k, v = (each.reshape(rows * heads, length, size) for each in (q, k, v))
    scores = torch.baddbmm(later.expand(rows * heads, -1, -1), q, k.transpose(1, 2), alpha=scaling or size**-0.5)
    out = torch.bmm(functional.softmax(scores, dim=-1).to(v.dtype), v)
    return out.view(rows, heads, length, size).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Rows are causal and padded at their ends: there is nothing to mask."""


def register() -> str:
    """Make it known to transformers; its name."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME
