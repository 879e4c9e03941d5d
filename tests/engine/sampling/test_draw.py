from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quire_engine.sampling.draw import uniforms
from quire_kernels import draw as draw_by

GOLDEN = [0.10434906397397764, 0.9544184074215611, 0.784637513674012]


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    return draw_by(logits, uniform, torch.ones(len(logits)))[0]


def words(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint64)


def test_the_numbers_are_the_same_in_every_release() -> None:
    got = uniforms(words(0, 1, 2**64 - 1), words(0, 3, 0), words(5, 5, 2**20))
    assert got.tolist() == GOLDEN


def test_a_row_alone_gets_what_it_gets_in_a_crowd() -> None:
    seeds, choices, positions = words(*range(100)), words(*([0, 1] * 50)), words(*range(7, 107))
    crowd = uniforms(seeds, choices, positions)
    alone = [uniforms(seeds[i : i + 1], choices[i : i + 1], positions[i : i + 1])[0] for i in range(100)]
    assert crowd.tolist() == alone


@pytest.mark.parametrize("varied", [0, 1, 2], ids=["seed", "choice", "position"])
def test_numbers_are_uniform_and_do_not_follow_one_another(varied: int) -> None:
    count = 20_000
    columns = [np.full(count, 7, dtype=np.uint64) for _ in range(3)]
    columns[varied] = np.arange(count, dtype=np.uint64)
    got = uniforms(*columns)
    assert got.min() > 0
    assert got.max() < 1
    counts, _ = np.histogram(got, bins=50, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 90  # chi-squared, 49 degrees: above 90 once in 3,000
    pairs, _, _ = np.histogram2d(got[:-1], got[1:], bins=10, range=[[0, 1], [0, 1]])
    assert ((pairs - 200) ** 2 / 200).sum() < 160  # 99 degrees


def test_the_draw_inverts_the_cumulative_distribution() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(5, 4)
    at = torch.tensor([0.05, 0.15, 0.31, 0.59, 0.61], dtype=torch.float64)
    assert draw(logits, at).tolist() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("uniform", [2.0**-54, 0.5, 1 - 2.0**-53])
def test_a_token_without_probability_is_never_drawn(uniform: float) -> None:
    excluded = float("-inf")
    logits = torch.tensor([[excluded, 1.0, excluded, 2.0, excluded]])
    assert draw(logits, torch.tensor([uniform], dtype=torch.float64)).item() in (1, 3)


def test_the_rarest_of_many_tokens_has_its_share() -> None:
    logits = torch.zeros(1, 200_000)
    at = torch.tensor([1 - 2.0**-53], dtype=torch.float64)
    assert draw(logits, at).item() == 199_999
    assert draw(logits, torch.tensor([0.5 + 2.6e-6], dtype=torch.float64)).item() == 100_000
