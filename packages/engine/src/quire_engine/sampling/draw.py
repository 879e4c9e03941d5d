"""The draw: a token for each row of logits. A pure function of (logits, seed, choice, position)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

Words = NDArray[np.uint64]

BLOCK = 128
"""Weights summed together before one of them is looked for."""

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


def draw(logits: Tensor, best: Tensor, uniform: Tensor) -> Tensor:
    """Invert each row's cumulative distribution: logits [n, V] float32, uniform [n] float64 -> token ids [n].

    `best` [n] is each row's largest logit; where it is not finite, the token means nothing.

    Weights are summed in blocks, the blocks in float64: over any vocabulary no token's share is lost, and only the one
    block that is hit is walked token by token.
    """
    n, size = logits.shape
    weights = logits - best[:, None]
    if size % BLOCK:
        weights = pad(weights, (0, -size % BLOCK), value=float("-inf"))
    blocks = weights.exp_().view(n, -1, BLOCK)
    in_block, rest = _find(blocks.sum(-1).double(), uniform)
    block = blocks.gather(1, in_block[:, :, None].expand(n, 1, BLOCK))[:, 0].double()
    in_row, _ = _find(block, rest)
    # The token that means nothing must be one all the same: the padding has none.
    return (in_block * BLOCK + in_row)[:, 0].clamp_(max=size - 1)


def _find(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """([n, 1], [n]): the column of weights [n, m] in which each number from 0 to 1 falls, and where in it (0 to 1)."""
    upper = weights.cumsum(-1)
    total = upper[:, -1:]
    # Strictly below the total, so that the first column that reaches beyond it has weight itself.
    at = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
    column = torch.searchsorted(upper, at, right=True).clamp_(max=weights.shape[-1] - 1)
    weight = weights.gather(1, column)
    inside = (at - (upper.gather(1, column) - weight)) / weight
    return column, inside[:, 0].clamp(0, 1)


def _mix(words: Words) -> Words:
    """The finalizer: every bit of the result depends on every bit of the word. Wraps around, as intended."""
    words = words + _STRIDE
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))
