"""The draw: a token for each row of logits. A pure function of (logits, seed, choice, position)."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire_engine.sequence import Sequence
from quire_engine.transit import sent
from quire_kernels import draw, limited, uniforms
from quire_protocol import SamplingParams

AHEAD = 16
"""Steps for which numbers are made together: a call costs more than the numbers in it."""


class Draws:
    """The draws of one batch of sequences: what `quire_kernels.draw` is told of each row, on the device."""

    def __init__(self, sequences: Seq[Sequence], device: torch.device) -> None:
        every = [sequence.params for sequence in sequences]

        def column(value: Callable[[SamplingParams], float], off: float, dtype: type) -> Tensor | None:
            """[R]: a limit of each row, or None where nobody has one."""
            if all(value(params) == off for params in every):
                return None
            return sent(np.array([value(params) for params in every], dtype=dtype), device)

        self._device = device
        heats = [0 if params.greedy else params.temperature for params in every]
        self._temperature = sent(np.array(heats, dtype=np.float32), device)
        self._limits = {
            "top_k": column(lambda params: max(params.top_k, 0), 0, np.int64),
            "top_p": column(lambda params: params.top_p, 1, np.float32),
            "min_p": column(lambda params: params.min_p, 0, np.float32),
        }
        self._seeds = sent(_words([sequence.seed for sequence in sequences]), device)
        self._choices = sent(_words([sequence.index for sequence in sequences]), device)
        self._from = np.full(len(sequences), -AHEAD)
        self._numbers = torch.empty(0)
        """[AHEAD, R]: those of each row's position `_from`, and of the positions after it."""

    def draw(self, logits: Tensor, lengths: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """A token and the largest logit of each row of logits [R, V]; `lengths` [R]: tokens each sequence has so far.

        A greedy row takes its largest logit. Where that is not finite, the token means nothing.
        """
        return draw(logits, self._uniform(lengths), self._temperature, **self._limits)

    def limited(self, logits: Tensor, rows: Tensor) -> Tensor:
        """[n, V] float32: what tokens are drawn from in n rows of logits [R, V]."""
        limits = {name: each if each is None else each[rows] for name, each in self._limits.items()}
        return limited(logits[rows], self._temperature[rows], **limits)

    def _uniform(self, lengths: NDArray[np.int64]) -> Tensor:
        """[R]: the number that decides each row, a function of its seed, choice and position alone."""
        steps = lengths - self._from
        if steps.min() < 0 or steps.max() >= AHEAD:
            positions = (lengths + np.arange(AHEAD)[:, None]).reshape(-1)
            words = self._seeds.repeat(AHEAD), self._choices.repeat(AHEAD), sent(positions, self._device)
            self._numbers, self._from = uniforms(*words).view(AHEAD, -1), lengths
            steps = np.zeros_like(lengths)
        if (steps == steps[0]).all():
            return self._numbers[steps[0]]
        return self._numbers.gather(0, sent(steps, self._device)[None])[0]  # some had tokens that no draw decided


def _words(numbers: Seq[int]) -> NDArray[np.int64]:
    """Any integers, negative ones too, as 64 bits each."""
    return np.array([number & 0xFFFFFFFFFFFFFFFF for number in numbers], dtype=np.uint64).view(np.int64)
