"""`constraint`: nothing but what the form of an answer allows; its guide knows what that is."""

from __future__ import annotations

from time import monotonic

import numpy as np
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_engine.sequence import Sequence
from quire_engine.transit import sent
from quire_protocol import SamplingParams

PATIENCE = 0.004
"""Seconds that a batch waits for masks. Rows without theirs are not drawn: they come again."""

_BITS = 2 ** np.arange(8, dtype=np.uint8)


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
        self._bits = sent(_BITS, rows.device)
        self._width = -(-rows.vocab_size // 8)

    def apply(self, logits: Tensor, step: Step) -> None:
        """Wait for the masks, but not for long, and apply those that are there."""
        until = monotonic() + PATIENCE
        packed = np.full((len(self._rows.sequences), self._width), 0xFF, dtype=np.uint8)  # [n, V / 8]
        for mask, row, sequence in zip(packed, self._rows.numbers.tolist(), self._rows.sequences, strict=True):
            failure = _failure(sequence, until)
            if failure is not None:
                step.failures[row] = failure
            elif sequence.guide is not None and sequence.guide.mask is not None:
                mask[:] = sequence.guide.mask.view(np.uint8)[: self._width]
        excluded = (sent(packed, logits.device)[:, :, None] & self._bits) == 0  # [n, V / 8, 8]
        excluded = excluded.view(len(packed), -1)[:, : logits.shape[1]]
        if self._rows.are_all:
            logits.masked_fill_(excluded, float("-inf"))
        else:
            logits[self._rows.index] = logits[self._rows.index].masked_fill_(excluded, float("-inf"))


def _failure(sequence: Sequence, until: float) -> Exception | None:
    """Why a row cannot be drawn, or not yet."""
    guide = sequence.guide
    assert guide is not None, "only rows with guides are masked"
    if not guide.wait(until - monotonic()):
        return NotReady()
    return guide.failure
