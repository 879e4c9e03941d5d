"""Nothing but what the form of an answer allows, or its budget for reasoning; its guide knows what that is."""

from __future__ import annotations

from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_engine.sequence import Sequence
from quire_engine.transit import sent
from quire_protocol import SamplingParams

PATIENCE = 0.004
"""Seconds that a batch waits for masks. Rows without theirs are not drawn: they come again."""

# By byte of a mask: whether each of its eight tokens is excluded, eight truth values side by side in one number.
_EXCLUDED = np.unpackbits(~np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.int64)[:, 0]


class NotReady(Exception):
    """It is not known yet what may be drawn in a row."""


class Masks:
    """Excludes what the guides of its rows do not allow: one bit for each token, one copy and one pass for all rows.

    A transform, wanted by rows that have a guide rather than by their parameters.
    """

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """No parameter asks for it."""
        return False

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._excluded = sent(_EXCLUDED, rows.device)
        self._width = -(-rows.vocab_size // 8)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Wait for the masks, but not for long, and apply those that are there."""
        until = monotonic() + PATIENCE
        is_masked = False
        packed = np.full((len(self._rows.sequences), self._width), 0xFF, dtype=np.uint8)  # [n, V / 8]
        for mask, row, sequence in zip(packed, self._rows.numbers.tolist(), self._rows.sequences, strict=True):
            try:
                is_masked |= _write(mask, sequence, until)
            except Exception as failure:  # also what a guide raises against its word: it is one row's
                step.failures[row] = failure
        if not is_masked:  # all are reasoning within their budgets
            return
        excluded = self._excluded[sent(packed.astype(np.int64), logits.device)]  # [n, V / 8]
        excluded = excluded.view(torch.bool)[:, : logits.shape[1]]  # [n, V]
        if self._rows.are_all:
            logits.masked_fill_(excluded, float("-inf"))
        else:
            logits[self._rows.index] = logits[self._rows.index].masked_fill_(excluded, float("-inf"))


def _write(mask: NDArray[np.uint8], sequence: Sequence, until: float) -> bool:
    """Write what a row's guide allows, [V / 8]; False where that is anything. Raises why a row cannot be drawn, or not
    yet.
    """
    guide = sequence.guide
    assert guide is not None, "only rows with guides are masked"
    if not guide.wait(until - monotonic()):
        raise NotReady
    if guide.failure is not None:
        raise guide.failure
    if guide.mask is None:
        return False
    mask[:] = guide.mask.view(np.uint8)[: len(mask)]
    return True
