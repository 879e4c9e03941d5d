"""`min_tokens`: what would end the answer is excluded until it is long enough."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams


class MinTokens:
    """Excludes end-of-sequence and stop tokens while the output is shorter than asked."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether a shortest length is asked for."""
        return params.min_tokens > 0

    def __init__(self, rows: Rows) -> None:
        self._numbers = rows.numbers
        self._until = np.array([sequence.prompt_length + sequence.params.min_tokens for sequence in rows.sequences])
        self._pairs = rows.pairs(lambda params: {*params.stop_token_ids, *rows.eos_token_ids})
        self._counts = [len({*sequence.params.stop_token_ids, *rows.eos_token_ids}) for sequence in rows.sequences]

    def apply(self, logits: Tensor, step: Step) -> None:
        """Exclude them in the rows that are still too short."""
        short = step.lengths[self._numbers] < self._until  # [n]
        if short.any():
            excluded = np.where(np.repeat(short, self._counts), np.float32("-inf"), np.float32(0))
            logits.index_put_(self._pairs, torch.from_numpy(excluded).to(logits.device), accumulate=True)
