"""`logit_bias`: a number added to chosen logits."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams


class LogitBias:
    """Adds each request's biases."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether there are biases."""
        return bool(params.logit_bias)

    def __init__(self, rows: Rows) -> None:
        self._pairs = rows.pairs(lambda params: params.logit_bias or ())
        biases = [bias for sequence in rows.sequences for bias in (sequence.params.logit_bias or {}).values()]
        self._biases = torch.tensor(biases, dtype=torch.float32, device=rows.device)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Add them."""
        logits.index_put_(self._pairs, self._biases, accumulate=True)
