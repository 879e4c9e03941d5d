"""From the logits of a batch to its tokens. It knows sequences and their parameters, no spans and no model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, isnan

import numpy as np
import torch
from torch import Tensor

from quire_engine.config import LogprobsMode
from quire_engine.errors import RequestError
from quire_engine.extensions import ProcessorFailed
from quire_engine.sampling.allowed_tokens import AllowedTokens
from quire_engine.sampling.bad_words import BadWords
from quire_engine.sampling.base import LogitsTransform, Rows, Step
from quire_engine.sampling.draw import Draws
from quire_engine.sampling.grammar import Masks, NotReady
from quire_engine.sampling.logit_bias import LogitBias
from quire_engine.sampling.logprobs import PROCESSED, Scores, score
from quire_engine.sampling.min_tokens import MinTokens
from quire_engine.sampling.penalties import Penalties
from quire_engine.sampling.processors import CustomProcessors
from quire_engine.scheduling.batch import SpanResult
from quire_engine.sequence import Sequence, TokenLogprobs
from quire_engine.transit import Returning, sent
from quire_protocol import SamplingParams

logger = logging.getLogger(__name__)

# In the order in which they apply. Behind them comes what guides allow, then temperature, min-p, top-k and top-p, which
# are the draw's. To add one: write its file, and one line here.
TRANSFORMS: tuple[type[LogitsTransform], ...] = (
    CustomProcessors,
    AllowedTokens,
    BadWords,
    MinTokens,
    LogitBias,
    Penalties,
)

EXCLUDING: Mapping[str, str] = {
    "allowed_token_ids": "allowed_token_ids",
    "bad_words": "bad_words_token_ids",
    "min_tokens": "min_tokens",
    "logit_bias": "logit_bias",
    "logits_processors": "logits_processors",
}
"""Fields that can exclude tokens, and so all of them, each with the parameter it becomes."""


NO_NUMBERS = SpanResult(
    error="The model gave logits that are not finite numbers; the checkpoint may need another dtype.", is_poisoned=True
)
"""Of a span for which there is nothing to choose by."""


class Columns:
    """What the parameters of one batch of sequences come to, on the device. Serves until the batch's members change."""

    def __init__(
        self,
        sequences: list[Sequence],
        *,
        vocab_size: int,
        eos_token_ids: tuple[int, ...],
        device: torch.device,
    ) -> None:
        def rows(wanted: Callable[[SamplingParams], bool]) -> Rows | None:
            return rows_of([row for row, sequence in enumerate(sequences) if wanted(sequence.params)])

        def rows_of(numbers: list[int]) -> Rows | None:
            if not numbers:
                return None
            own = tuple(sequences[row] for row in numbers)
            index = sent(numbers, device)
            return Rows(own, np.array(numbers), index, len(sequences), vocab_size, eos_token_ids)

        self.sequences = sequences
        self.scored = rows(lambda params: params.logprobs is not None)
        guided = rows_of([row for row, sequence in enumerate(sequences) if sequence.guide is not None])

        asked = ((transform, rows(transform.wanted)) for transform in TRANSFORMS)
        self.transforms: tuple[LogitsTransform, ...] = (
            *(transform(own) for transform, own in asked if own is not None),
            *([] if guided is None else [Masks(guided)]),
        )
        self.draws = Draws(sequences, device)
        scored = self.scored.sequences if self.scored else ()
        self.scored_counts = tuple(sequence.params.logprobs or 0 for sequence in scored)

    def transform(self, logits: Tensor, step: Step) -> Tensor:
        """Logits [R, V] as the rows' parameters want them; in place where they are float32 already."""
        if not self.transforms:
            return logits
        logits = logits.float()
        for transform in self.transforms:
            transform.apply(logits, step)
        return logits


@dataclass(frozen=True, slots=True)
class Sampled:
    """A batch's tokens: on the device, and on their way to the host until `read`."""

    tokens: Tensor
    """[R]"""
    returning: Returning
    """The tokens, and [R] the largest logits they were chosen by: not finite where there was nothing to choose."""
    columns: Columns
    scores: Scores | None
    failures: Mapping[int, Exception]
    """By row: why there is no token."""

    def read(self) -> list[SpanResult]:
        """To the host: one result for each row."""
        scores: dict[int, TokenLogprobs] = {}
        if self.columns.scored is not None and self.scores is not None:
            rows = self.columns.scored.numbers.tolist()
            scores = dict(zip(rows, self.scores.read(self.columns.scored_counts), strict=True))
        hidden = {row for row, own in scores.items() if isnan(own.logprob)}  # a mask kept them from the draw
        tokens, best = (tensor.tolist() for tensor in self.returning.get())
        return [
            SpanResult(token=token, logprobs=scores.get(row))
            if isfinite(best[row]) and row not in self.failures and row not in hidden
            else self._failure(row, best[row])
            for row, token in enumerate(tokens)
        ]

    def _failure(self, row: int, best: float) -> SpanResult:
        """Why a row has no token, and the field that is to blame."""
        params = self.columns.sequences[row].params
        if failure := self.failures.get(row):
            if not isinstance(failure, NotReady | RequestError | ProcessorFailed):
                logger.error("A row could not be drawn.", exc_info=failure)
            return SpanResult() if isinstance(failure, NotReady) else SpanResult.failed(failure)
        guide = self.columns.sequences[row].guide
        excluding = [guide.param] if guide is not None and guide.param is not None else []
        excluding += [field for field, name in EXCLUDING.items() if getattr(params, name)]
        if best == float("-inf") and excluding:
            reason = f"No token is left to draw: {' and '.join(excluding)} exclude them all."
            return SpanResult(error=reason, param=excluding[0])
        if params.logits_processors:
            return replace(NO_NUMBERS, error="The logits processors left logits that are not finite numbers.")
        return NO_NUMBERS


class Sampler:
    """Transforms in order, then the largest logit or a draw, then scores for those who asked. Owns the columns."""

    def __init__(
        self,
        *,
        vocab_size: int,
        eos_token_ids: tuple[int, ...],
        device: torch.device,
        logprobs_mode: LogprobsMode = "raw_logprobs",
    ) -> None:
        self._logprobs_mode = logprobs_mode
        self._columns_of = partial(
            Columns,
            vocab_size=vocab_size,
            eos_token_ids=eos_token_ids,
            device=device,
        )
        self._columns = self._columns_of([])

    def sample(self, logits: Tensor, sequences: list[Sequence], step: Step) -> Sampled:
        """One token for each row: logits [R, V] of any float type, R sequences. May overwrite the logits."""
        if sequences != self._columns.sequences:  # compares identities: a sequence equals only itself
            self._columns = self._columns_of(sequences)
        columns = self._columns
        scored, is_raw = columns.scored, self._logprobs_mode not in PROCESSED
        raw = logits[scored.index] if scored is not None and is_raw else None
        logits = columns.transform(logits, step)
        tokens, best = columns.draws.draw(logits, step.lengths)
        scores = None
        if scored is not None:
            looked_at = columns.draws.limited(logits, scored.index) if raw is None else raw
            scores = score(looked_at, tokens[scored.index], columns.scored_counts, self._logprobs_mode)
        return Sampled(tokens, Returning(tokens, best), columns, scores, step.failures)
