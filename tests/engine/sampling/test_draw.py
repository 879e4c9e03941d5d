from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quire_engine.sampling.draw import AHEAD, Draws
from quire_engine.sequence import Sequence
from quire_kernels import draw as draw_by
from quire_kernels import uniforms
from quire_protocol import SamplingParams

GOLDEN = [0.10434906397397764, 0.9544184074215611, 0.784637513674012]


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    return draw_by(logits, uniform, torch.ones(len(logits)))[0]


def words(*numbers: int) -> Tensor:
    return torch.from_numpy(np.array(numbers, dtype=np.uint64).view(np.int64))


def test_the_numbers_are_the_same_in_every_release() -> None:
    got = uniforms(words(0, 1, 2**64 - 1), words(0, 3, 0), words(5, 5, 2**20))
    assert got.tolist() == GOLDEN


def test_a_row_alone_gets_what_it_gets_in_a_crowd() -> None:
    seeds, choices, positions = words(*range(100)), words(*([0, 1] * 50)), words(*range(7, 107))
    crowd = uniforms(seeds, choices, positions)
    alone = [uniforms(seeds[i : i + 1], choices[i : i + 1], positions[i : i + 1])[0] for i in range(100)]
    assert crowd.tolist() == [float(each) for each in alone]


@pytest.mark.parametrize("varied", [0, 1, 2], ids=["seed", "choice", "position"])
def test_numbers_are_uniform_and_do_not_follow_one_another(varied: int) -> None:
    count = 20_000
    columns = [torch.full((count,), 7) for _ in range(3)]
    columns[varied] = torch.arange(count)
    got = uniforms(*columns).numpy()
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


@pytest.mark.parametrize(
    "lengths", [range(5, 7 + 2 * AHEAD), [9, 9, 8, 30, 31, 29, 7 + AHEAD, 8 + AHEAD]], ids=["on", "about"]
)
def test_a_draw_depends_on_its_position_and_not_on_the_steps_before(lengths: list[int]) -> None:
    sequences = [Sequence(0, index, [0], 1, SamplingParams(), seed=seed) for index, seed in enumerate((-1, 7, 2**63))]
    logits, behind = torch.zeros(3, 10_000), np.array([0, 100, 3])

    def fresh() -> Draws:
        return Draws(sequences, torch.device("cpu"))

    along = fresh()
    tokens = [along.draw(logits, behind + length)[0].tolist() for length in lengths]
    assert tokens == [fresh().draw(logits, behind + length)[0].tolist() for length in lengths]
    assert len({*map(tuple, tokens)}) == len({*lengths})


def test_rows_that_do_not_go_on_together_have_their_own_positions() -> None:
    sequences = [Sequence(0, 0, [0], 1, SamplingParams(), seed=seed) for seed in (1, 2)]
    draws, logits = Draws(sequences, torch.device("cpu")), torch.zeros(2, 10_000)
    draws.draw(logits, np.array([5, 5]))
    first, second = draws.draw(logits, np.array([6, 8]))[0].tolist()
    alone = [Draws([each], torch.device("cpu")) for each in sequences]
    assert [first, second] == [
        own.draw(logits[:1], np.array([length]))[0].item() for own, length in zip(alone, (6, 8), strict=True)
    ]
