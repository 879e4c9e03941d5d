"""`top_k` and `top_p`: only the likeliest tokens stay, by number and by joint probability."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams

FIRST_LOOK = 256
"""Largest logits looked at before a row has to show more; most nuclei are smaller, and a full sort is slow."""


class TopKTopP:
    """First top-k, then top-p (Holtzman et al. 2020) of what is left.

    Both are thresholds: tokens with exactly equal logits stay or go together, so that what stays is a function of the
    row's values alone, not of how a sort orders ties.
    """

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether either is on; a greedy choice is not changed by them."""
        return (params.top_k > 0 or params.top_p < 1) and not params.greedy

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        size = rows.vocab_size
        self._limits_number = any(0 < sequence.params.top_k < size for sequence in rows.sequences)
        self._limits_mass = any(sequence.params.top_p < 1 for sequence in rows.sequences)
        self._most = max(min(sequence.params.top_k, size) for sequence in rows.sequences)
        self._k = rows.column(
            lambda params: min(params.top_k, size) if params.top_k > 0 else size, torch.int64
        )  # [n, 1]
        self._p = rows.column(lambda params: params.top_p)  # [n, 1]

    def apply(self, logits: Tensor, step: Step) -> None:
        """Exclude what is below each row's threshold."""
        own = logits if self._rows.are_all else logits[self._rows.index]
        if self._limits_number:
            self._keep_number(own)
        if self._limits_mass:
            self._keep_mass(own)
        if not self._rows.are_all:
            logits[self._rows.index] = own

    def _keep_number(self, own: Tensor) -> None:
        largest = own.topk(self._most).values  # [n, most]
        threshold = largest.gather(1, (self._k - 1).clamp(max=self._most - 1))
        is_off = self._k == own.shape[-1]
        own.masked_fill_((own < threshold) & ~is_off, float("-inf"))

    def _keep_mass(self, own: Tensor) -> None:
        """A token stays if the likelier ones together have less than p. The likeliest always does."""
        norm = own.logsumexp(-1, keepdim=True)  # [n, 1]
        width = min(FIRST_LOOK, own.shape[-1])
        while True:
            largest = own.topk(width).values  # [n, width], descending
            mass = (largest - norm).exp_().cumsum(-1)  # joint probability, own included
            if width == own.shape[-1] or bool(((mass[:, -1:] >= self._p) | (self._p == 1)).all()):
                break
            width = min(8 * width, own.shape[-1])
        stays = torch.cat([torch.ones_like(mass[:, :1], dtype=torch.bool), mass[:, :-1] < self._p], dim=-1)
        threshold = largest.gather(1, stays.sum(-1, keepdim=True) - 1)
        own.masked_fill_((own < threshold) & (self._p < 1), float("-inf"))
