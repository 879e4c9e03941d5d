"""`allowed_token_ids`: nothing but these."""

from __future__ import annotations

from torch import Tensor

from quire_engine.sampling.base import Rows, Step
from quire_protocol import SamplingParams


class AllowedTokens:
    """Excludes every token that is not named."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether tokens are named."""
        return params.allowed_token_ids is not None

    def __init__(self, rows: Rows) -> None:
        self._rows = rows.index
        self._allowed = rows.pairs(lambda params: params.allowed_token_ids or ())

    def apply(self, logits: Tensor, step: Step) -> None:
        """Set aside the allowed logits, exclude the whole row, put them back."""
        kept = logits[self._allowed]
        logits.index_fill_(0, self._rows, float("-inf"))
        logits[self._allowed] = kept
