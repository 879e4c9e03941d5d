"""`temperature`: how much likelier the likeliest tokens are than the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams

COLD = 0.01
"""Below it, logits themselves might overflow when they are divided."""


class Temperature:
    """Divides each row's logits; of a cold row the distances from its largest logit, so no temperature is too small."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether it changes anything; temperature 0 takes the largest logit and draws nothing."""
        return params.temperature not in (0, 1)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._temperature = rows.column(lambda params: params.temperature)  # [n, 1]
        self._is_cold = self._temperature < COLD  # [n, 1]
        self._any_cold = any(sequence.params.temperature < COLD for sequence in rows.sequences)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Distances between logits grow or shrink; the largest logit of a cold row becomes 0."""
        own = logits if self._rows.are_all else logits[self._rows.index]
        if self._any_cold:
            # A row without any token left has no largest logit, and must not come out as one that is no number.
            best = own.amax(-1, keepdim=True).clamp_(min=torch.finfo(own.dtype).min)
            own.sub_(torch.where(self._is_cold, best, 0.0))
        own.div_(self._temperature)
        if not self._rows.are_all:
            logits[self._rows.index] = own
