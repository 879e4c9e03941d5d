"""`min_p`: tokens much less likely than the likeliest one are excluded."""

from __future__ import annotations

from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams


class MinP:
    """Keeps tokens with at least `min_p` times the probability of the likeliest (Nguyen et al. 2024)."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether it is on; a greedy choice is not changed by it."""
        return params.min_p > 0 and not params.greedy

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._distance = rows.column(lambda params: params.min_p).log_()  # [n, 1]: in logits, a ratio is a distance

    def apply(self, logits: Tensor, step: Step) -> None:
        """Exclude what lies further below the largest logit."""
        own = logits if self._rows.are_all else logits[self._rows.index]
        own.masked_fill_(own < own.amax(-1, keepdim=True) + self._distance, float("-inf"))
        if not self._rows.are_all:
            logits[self._rows.index] = own
