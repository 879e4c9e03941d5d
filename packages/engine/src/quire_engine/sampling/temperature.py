"""`temperature`: how much likelier the likeliest tokens are than the rest."""

from __future__ import annotations

from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams


class Temperature:
    """Divides each row's distances from its largest logit; so no temperature above zero is too small."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether it changes anything; temperature 0 takes the largest logit and draws nothing."""
        return params.temperature not in (0, 1)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._temperature = rows.column(lambda params: params.temperature)  # [n, 1]

    def apply(self, logits: Tensor, step: Step) -> None:
        """Distances grow or shrink; the largest logit becomes 0."""
        own = logits if self._rows.are_all else logits[self._rows.index]
        own.sub_(own.amax(-1, keepdim=True)).div_(self._temperature)
        if not self._rows.are_all:
            logits[self._rows.index] = own
