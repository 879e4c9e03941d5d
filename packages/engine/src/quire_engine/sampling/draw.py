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
from quire_kernels import draw
from quire_protocol import SamplingParams

Words = NDArray[np.uint64]

# splitmix64 (Steele, Lea and Flood 2014): a counter's stride and the two multipliers of its finalizer.
_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def uniforms(seeds: Words, choices: Words, positions: Words) -> NDArray[np.float64]:
    """One number strictly between 0 and 1 for each row: the same for the same three numbers, whatever the batch."""
    state = _mix(seeds)
    state = _mix(state ^ _mix(choices + _STRIDE))
    state = _mix(state ^ _mix(positions * _STRIDE))
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(words: Words) -> Words:
    """The finalizer: every bit of the result depends on every bit of the word. Wraps around, as intended."""
    words = words + _STRIDE
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


def _words(numbers: Seq[int]) -> Words:
    """Any integers, negative ones too, as 64 bits each."""
    return np.array([number & 0xFFFFFFFFFFFFFFFF for number in numbers], dtype=np.uint64)


class Draws:
    """The draws of one batch of sequences: what `quire_kernels.draw` is told of each row, on the device."""

    def __init__(self, sequences: Seq[Sequence], device: torch.device, *, limits: bool) -> None:
        """With `limits` the draw applies temperature, min-p, top-k and top-p; without, the logits have them already."""
        every = [sequence.params for sequence in sequences]

        def column(value: Callable[[SamplingParams], float], off: float, dtype: type) -> Tensor | None:
            """[R]: a limit of each row, or None where nobody has one."""
            if not limits or all(value(params) == off for params in every):
                return None
            return sent(np.array([value(params) for params in every], dtype=dtype), device)

        heats = [0 if params.greedy else params.temperature if limits else 1 for params in every]
        self._temperature = sent(np.array(heats, dtype=np.float32), device)
        self._top_k = column(lambda params: max(params.top_k, 0), 0, np.int64)
        self._top_p = column(lambda params: params.top_p, 1, np.float32)
        self._min_p = column(lambda params: params.min_p, 0, np.float32)
        self._seeds = _words([sequence.seed for sequence in sequences])
        self._choices = _words([sequence.index for sequence in sequences])

    def draw(self, logits: Tensor, lengths: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """A token and the largest logit of each row of logits [R, V]; `lengths` [R]: tokens each sequence has so far.

        A greedy row takes its largest logit. Where that is not finite, the token means nothing.
        """
        uniform = sent(uniforms(self._seeds, self._choices, lengths.astype(np.uint64)), logits.device)
        return draw(logits, uniform, self._temperature, top_k=self._top_k, top_p=self._top_p, min_p=self._min_p)
