"""From the logits of a batch to its tokens. It knows sequences and their parameters, no spans and no model."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire_engine.sampling.allowed_tokens import AllowedTokens
from quire_engine.sampling.bad_words import BadWords
from quire_engine.sampling.base import LogitsTransform, Rows, Step
from quire_engine.sampling.draw import draw, uniforms
from quire_engine.sampling.logit_bias import LogitBias
from quire_engine.sampling.logprobs import Scores, score
from quire_engine.sampling.min_p import MinP
from quire_engine.sampling.min_tokens import MinTokens
from quire_engine.sampling.penalties import Penalties
from quire_engine.sampling.temperature import Temperature
from quire_engine.sampling.top_k_top_p import TopKTopP
from quire_engine.scheduling.batch import SpanResult
from quire_engine.sequence import Sequence, TokenLogprobs
from quire_protocol import SamplingParams

# In the order in which they apply. To add one: write its file, and one line here.
TRANSFORMS: tuple[type[LogitsTransform], ...] = (
    AllowedTokens,
    BadWords,
    MinTokens,
    LogitBias,
    Penalties,
    Temperature,
    MinP,
    TopKTopP,
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the parameters of one batch of sequences come to, on the device. Serves until the batch's members change."""

    sequences: list[Sequence]
    transforms: tuple[LogitsTransform, ...]
    """Those that some row wants, in order."""
    drawing: Rows | None
    """Rows that draw; the others take their largest logit."""
    seeds: NDArray[np.uint64]
    """[n] of the rows that draw, as the next one."""
    choices: NDArray[np.uint64]
    scored: Rows | None
    """Rows that ask for log-probabilities."""
    scored_counts: tuple[int, ...]
    """How many of the likeliest tokens each of those wants."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A batch's tokens on their way: on the device until `read`."""

    tokens: Tensor
    """[R]"""
    best: Tensor
    """[R] the largest logit the token was chosen by; not finite where there was nothing to choose."""
    columns: Columns
    scores: Scores | None

    def read(self) -> list[SpanResult]:
        """To the host: one result for each row."""
        scores: dict[int, TokenLogprobs] = {}
        if self.columns.scored is not None and self.scores is not None:
            rows = self.columns.scored.numbers.tolist()
            scores = dict(zip(rows, self.scores.read(self.columns.scored_counts), strict=True))
        finite = self.best.isfinite().tolist()
        return [
            SpanResult(token=token, logprobs=scores.get(row)) if finite[row] else SpanResult(error=self._reason(row))
            for row, token in enumerate(self.tokens.tolist())
        ]

    def _reason(self, row: int) -> str:
        if float(self.best[row]) == float("-inf"):
            return "no token is left to draw: allowed_token_ids, bad_words, logit_bias and min_tokens exclude them all"
        return "the model gave logits that are not finite numbers; the checkpoint may need another dtype"


class Sampler:
    """Transforms in order, then the largest logit or a draw, then scores for those who asked."""

    def __init__(self, *, vocab_size: int, eos_token_ids: tuple[int, ...], device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._device = device
        self._columns = self._build([])

    def sample(self, logits: Tensor, sequences: list[Sequence], step: Step) -> Sampled:
        """One token for each row: logits [R, V] of any float type, R sequences. May overwrite the logits."""
        if sequences != self._columns.sequences:  # compares identities: a sequence equals only itself
            self._columns = self._build(sequences)
        columns = self._columns
        raw = None if columns.scored is None else logits[columns.scored.index()]
        if columns.transforms:
            logits = logits.float()
            for transform in columns.transforms:
                transform.apply(logits, step)
        tokens = logits.argmax(-1)  # a NaN counts as the largest
        best = logits.gather(1, tokens[:, None])[:, 0]
        if columns.drawing is not None:
            tokens = self._draw(logits, tokens, columns, columns.drawing, step)
        scores = None
        if columns.scored is not None and raw is not None:
            scores = score(raw, tokens[columns.scored.index()], columns.scored_counts)
        return Sampled(tokens, best, columns, scores)

    def _draw(self, logits: Tensor, tokens: Tensor, columns: Columns, rows: Rows, step: Step) -> Tensor:
        positions = step.lengths[rows.numbers].astype(np.uint64)
        uniform = torch.from_numpy(uniforms(columns.seeds, columns.choices, positions)).to(self._device)
        if rows.are_all:
            return draw(logits.float(), uniform)
        index = rows.index()
        return tokens.index_copy(0, index, draw(logits[index].float(), uniform))

    def _build(self, sequences: list[Sequence]) -> Columns:
        transforms = ((transform, self._rows(transform.wanted, sequences)) for transform in TRANSFORMS)
        drawing = self._rows(lambda params: not params.greedy, sequences)
        scored = self._rows(lambda params: params.logprobs is not None, sequences)
        return Columns(
            sequences=sequences,
            transforms=tuple(transform(rows) for transform, rows in transforms if rows is not None),
            drawing=drawing,
            seeds=_words([sequence.seed for sequence in drawing.sequences] if drawing else []),
            choices=_words([sequence.index for sequence in drawing.sequences] if drawing else []),
            scored=scored,
            scored_counts=tuple(sequence.params.logprobs or 0 for sequence in scored.sequences) if scored else (),
        )

    def _rows(self, wanted: Callable[[SamplingParams], bool], sequences: Seq[Sequence]) -> Rows | None:
        """The rows whose parameters want something; None if no row does."""
        numbers = [row for row, sequence in enumerate(sequences) if wanted(sequence.params)]
        if not numbers:
            return None
        return Rows(
            sequences=tuple(sequences[row] for row in numbers),
            numbers=np.array(numbers, dtype=np.int64),
            total=len(sequences),
            vocab_size=self._vocab_size,
            eos_token_ids=self._eos_token_ids,
            device=self._device,
        )


def _words(numbers: Seq[int]) -> NDArray[np.uint64]:
    """Any integers, negative ones too, as 64 bits each."""
    return np.array([number & 0xFFFFFFFFFFFFFFFF for number in numbers], dtype=np.uint64)
