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
        self._until = np.zeros(rows.total, dtype=np.int64)  # [R] length from which a row may end; 0 if it always may
        self._until[rows.numbers] = [each.prompt_length + each.params.min_tokens for each in rows.sequences]
        self._pairs = rows.pairs(lambda params: {*params.stop_token_ids, *rows.eos_token_ids})

    def apply(self, logits: Tensor, step: Step) -> None:
        """Exclude them in the rows that are still too short."""
        short = step.lengths < self._until  # [R]
        if short.any():
            is_short = torch.from_numpy(short).to(logits.device)[self._pairs[0]]
            logits.index_put_(self._pairs, torch.where(is_short, float("-inf"), 0.0), accumulate=True)
