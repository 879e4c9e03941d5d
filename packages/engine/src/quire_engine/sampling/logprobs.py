"""Log-probabilities of tokens from rows of logits, and what is meant by them; which logits is for the caller to say."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from torch import Tensor

from quire_engine.config import LogprobsMode
from quire_engine.sampling.largest import largest
from quire_engine.sequence import TokenLogprobs
from quire_engine.transit import Returning

PROCESSED: frozenset[LogprobsMode] = frozenset({"processed_logprobs", "processed_logits"})
"""Modes that look at what a token is drawn from; the others look at what the model gave."""
NORMALIZED: frozenset[LogprobsMode] = frozenset({"raw_logprobs", "processed_logprobs"})
"""Modes that report log-probabilities; the others report logits as they are."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of n rows, on their way to the host until `read`."""

    rows: int
    returning: Returning
    """[n] the tokens that are scored, [n] their log-probabilities, [n] their ranks (1 for the likeliest token), [n, k]
    the likeliest tokens, best first, and [n, k] theirs."""

    def read(self, counts: Seq[int]) -> list[TokenLogprobs]:
        """To the host: one entry for each row, with as many of the likeliest tokens as that row asked for (-1: all)."""
        return [
            TokenLogprobs(target, logprob, rank, tuple(ids[: _end(count)]), tuple(top[: _end(count)]))
            for target, logprob, rank, ids, top, count in zip(
                *(field.tolist() for field in self.returning.get()), counts, strict=True
            )
        ]


def score(logits: Tensor, targets: Tensor, counts: Seq[int], mode: LogprobsMode) -> Scores:
    """Score one target token in each row of logits [n, V], of any float type; in float32."""
    logits = logits.float()
    norm = logits.logsumexp(-1, keepdim=True) if mode in NORMALIZED else logits.new_zeros(len(logits), 1)  # [n, 1]
    chosen = logits.gather(1, targets[:, None])  # [n, 1]
    wanted = logits.shape[-1] if -1 in counts else min(max(counts), logits.shape[-1])
    top, top_ids = largest(logits, wanted)
    ranks = (logits > chosen).sum(-1) + 1
    return Scores(len(logits), Returning(targets, (chosen - norm)[:, 0], ranks, top_ids, top - norm))


def _end(count: int) -> int | None:
    return None if count == -1 else count
