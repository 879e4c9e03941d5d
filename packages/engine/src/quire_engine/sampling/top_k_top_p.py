"""`top_k` and `top_p`: only the likeliest tokens stay, by number and by joint probability."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_engine.sampling.largest import largest
from quire_protocol import SamplingParams

FIRST_LOOK = 64
"""Largest logits looked at before anything is said of the others: most nuclei are smaller."""
BUCKETS = 4096
SPAN = 40.0
"""Distance from the largest logit that the buckets cover; what lies further below has no share worth a bucket."""


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
        limits = [each.params.top_k for each in rows.sequences if 0 < each.params.top_k < size]
        self._most = max(limits, default=0)  # of those alone: a number beyond the vocabulary costs nobody anything
        self._limits_mass = any(sequence.params.top_p < 1 for sequence in rows.sequences)
        self._k = rows.column(
            lambda params: min(params.top_k, size) if params.top_k > 0 else size, torch.int64
        )  # [n, 1]
        self._p = rows.column(lambda params: params.top_p)  # [n, 1]

    def apply(self, logits: Tensor, step: Step) -> None:
        """Exclude what is below each row's threshold."""
        own = logits if self._rows.are_all else logits[self._rows.index]
        if self._most:
            self._keep_number(own)
        if self._limits_mass:
            self._keep_mass(own)
        if not self._rows.are_all:
            logits[self._rows.index] = own

    def _keep_number(self, own: Tensor) -> None:
        best, _ = largest(own, self._most)  # [n, most]
        threshold = best.gather(1, (self._k - 1).clamp(max=self._most - 1))
        is_off = self._k == own.shape[-1]
        own.masked_fill_((own < threshold) & ~is_off, float("-inf"))

    def _keep_mass(self, own: Tensor) -> None:
        """A token stays if the likelier ones together have less than p. The likeliest always does."""
        norm = own.logsumexp(-1, keepdim=True)  # [n, 1]
        best, _ = largest(own, min(FIRST_LOOK, own.shape[-1]))
        shares = (best - norm).double().exp_()
        reached = shares.cumsum(-1)
        threshold = _last_staying(best, reached - shares, self._p)
        is_far = ((reached[:, -1:] < self._p) & (self._p < 1))[:, 0]
        if best.shape[-1] < own.shape[-1] and bool(is_far.any()):
            threshold[is_far] = far_threshold(own[is_far], self._p[is_far])
        own.masked_fill_((own < threshold) & (self._p < 1), float("-inf"))


def far_threshold(rows: Tensor, p: Tensor) -> Tensor:
    """[n, 1]: the smallest logit in each row's nucleus, for rows [n, V] in which probability is spread wide.

    Sorting whole rows would cost more than everything else in sampling. Instead probability is summed in buckets of
    like logits, and only the tokens of the one bucket in which p is reached are put in order.
    """
    top = rows.amax(-1, keepdim=True)  # [n, 1]
    weights = (rows - top).exp_().double()
    # The likeliest tokens come first. A logit that is no number goes anywhere: the sampler reports its row afterwards.
    distance = (top - rows).mul_(BUCKETS / SPAN).clamp_(max=BUCKETS - 1)
    buckets = distance.int().clamp_(min=0).long()  # [n, V]
    mass = weights.new_zeros(len(rows), BUCKETS).scatter_add_(1, buckets, weights)
    reached = mass.cumsum(-1)
    wanted = p * reached[:, -1:]  # [n, 1]
    bucket = torch.searchsorted(reached, wanted).clamp_(max=BUCKETS - 1)
    before = reached.gather(1, bucket) - mass.gather(1, bucket)

    is_inside = buckets == bucket
    inside, _ = largest(torch.where(is_inside, rows, float("-inf")), int(is_inside.sum(-1).max()))
    shares = (inside - top).exp_().double()
    return _last_staying(inside, before + shares.cumsum(-1) - shares, wanted)


def _last_staying(best: Tensor, likelier: Tensor, wanted: Tensor) -> Tensor:
    """[n, 1]: the last of some descending logits [n, m] whose likelier ones have less than the wanted share."""
    stays = (likelier < wanted).sum(-1, keepdim=True).clamp_(min=1)
    return best.gather(1, stays - 1)
