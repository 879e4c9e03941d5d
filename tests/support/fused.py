"""The same small model twice: as it is, and with everything fused that is proven."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.support.families import Family, build
from torch import Tensor, nn
from transformers import PreTrainedModel

from quire_engine.attention.paged import PagedBackend
from quire_engine.config import Fused
from quire_engine.model.fusion import PASSES, fuse
from quire_engine.model.proof import _logits_packed, prove

CONTEXT = 64


def fused_and_plain(
    family: Family, dtype: torch.dtype = torch.float32, *, change: Callable[[nn.Module], object] = lambda model: None
) -> tuple[PreTrainedModel, PreTrainedModel, tuple[Fused, ...]]:
    """(fused model, plain model, report), both on the seam; `change` is done to both beforehand."""
    models = [build(family).to(dtype).requires_grad_(False) for _ in range(2)]
    for model in models:
        change(model)
        model.layers_proven = prove(model, PagedBackend, architecture=str(family), context=CONTEXT)
    fused, plain = models
    return fused, plain, fuse(fused, PASSES, fused.layers_proven, context=CONTEXT)


def probe_logits(model: PreTrainedModel) -> Tensor:
    """[rows, V] of two prompts packed together, in two passes."""
    return _logits_packed(model, PagedBackend, model.layers_proven)
