"""The draw: a token for each row of logits. A pure function of (logits, seed, choice, position)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Invert each row's cumulative distribution: logits [n, V] float32, uniform [n] float64 -> token ids [n].

    In float64, where a sum over any vocabulary is exact enough that no token's share is lost. A row without a finite
    largest logit gives a token that means nothing; the caller looks.
    """
    weights = (logits - logits.amax(-1, keepdim=True)).double().exp_()
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    # Strictly below the total, so that the first token whose cumulative weight exceeds it has weight itself.
    at = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)


def _mix(words: Words) -> Words:
    """The finalizer: every bit of the result depends on every bit of the word. Wraps around, as intended."""
    words = words + _STRIDE
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))
