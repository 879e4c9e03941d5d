"""Tokens come with the probabilities of the processed logits, whatever makes the draws different from one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.plain_sampler import distribution
from tests.support.statistics import deviates
from torch import Tensor

from quire_engine.sampling.base import Step
from quire_engine.sampling.sampler import Sampler
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

DRAWS = 12_000
EOS = (3,)

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.4},
    "hot": {"temperature": 2.0},
    "top-k": {"top_k": 7},
    "top-p": {"top_p": 0.85},
    "min-p": {"min_p": 0.05},
    "all four": {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0.01},
    "penalties": {"repetition_penalty": 1.4, "presence_penalty": 0.8, "frequency_penalty": -0.5},
    "masks": {"allowed_token_ids": tuple(range(0, 40, 2)), "bad_words_token_ids": ((4,), (2, 6)), "min_tokens": 9},
    "everything": {
        "temperature": 0.8,
        "top_p": 0.8,
        "top_k": 20,
        "min_p": 0.02,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "logit_bias": {4: 2.0},
    },
    "bias": {"logit_bias": {1: 2.5, 2: -100.0, 30: 1.0}, "top_p": 0.7},
}


def logits_of(size: int) -> Tensor:
    return 2 * torch.randn(size, generator=torch.Generator().manual_seed(size))


def draws(logits: Tensor, sequences: list[Sequence], rows: int = 2000) -> list[int]:
    """The tokens of many sequences that have the same logits, in batches of `rows`."""
    sampler = Sampler(vocab_size=len(logits), eos_token_ids=EOS, device=torch.device("cpu"))
    tokens: list[int] = []
    for start in range(0, len(sequences), rows):
        own = sequences[start : start + rows]
        step = Step(np.array([len(each.tokens) for each in own]), torch.tensor([each.tokens[-1] for each in own]))
        results = sampler.sample(logits.repeat(len(own), 1), own, step).read()
        tokens += [result.token for result in results if result.token is not None]
    return tokens


def sequence(seed: int = 0, index: int = 0, repeats: int = 1, **params: Any) -> Sequence:
    """A prompt of 1, 5 over and over, and an output of 2, 8, 8: its length differs, what it holds does not."""
    return Sequence(0, index, [1, 5] * repeats + [2, 8, 8], 2 * repeats, SamplingParams(**params), seed=seed)


@pytest.mark.parametrize("varied", ["choices", "positions", "seeds"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_their_probabilities(kind: str, varied: str) -> None:
    params, logits = KINDS[kind], logits_of(40)
    if varied == "choices":
        sequences = [sequence(11, index, **params) for index in range(DRAWS)]
    elif varied == "positions":
        sequences = [sequence(11, index, length, **params) for index in range(DRAWS // 60) for length in range(1, 61)]
    else:
        sequences = [sequence(-seed, **params) for seed in range(DRAWS)]
    expected = distribution(logits.tolist(), sequences[0], EOS)
    assert deviates(draws(logits, sequences), expected) is None


@pytest.mark.parametrize("kind", ["plain", "hot", "top-k", "top-p", "min-p", "all four", "penalties"])
def test_so_they_have_over_a_vocabulary_that_is_searched_in_blocks(kind: str) -> None:
    logits = logits_of(4096)
    sequences = [sequence(seed, **KINDS[kind]) for seed in range(DRAWS)]
    assert deviates(draws(logits, sequences, 1000), distribution(logits.tolist(), sequences[0], EOS)) is None


def test_what_one_row_draws_does_not_lean_on_its_neighbours() -> None:
    logits = logits_of(40)
    mixed = [sequence(seed, **params) for seed in range(DRAWS // 4) for params in KINDS.values()]
    tokens = draws(logits, mixed)
    for place, params in enumerate(KINDS.values()):
        own = tokens[place :: len(KINDS)]
        assert deviates(own, distribution(logits.tolist(), sequence(**params), EOS)) is None


def test_consecutive_tokens_of_one_answer_are_drawn_independently() -> None:
    logits = logits_of(10)
    answers = range(400)
    tokens = draws(logits, [sequence(seed, 0, length) for seed in answers for length in range(1, 61)])
    shares = distribution(logits.tolist(), sequence(), EOS)
    pairs = [tokens[at] * 10 + tokens[at + 1] for at in range(0, len(tokens), 2)]
    assert deviates(pairs, [first * second for first in shares for second in shares]) is None


def test_the_test_itself_sees_a_sampler_that_is_slightly_wrong() -> None:
    logits = logits_of(40)
    wrong = distribution(logits.tolist(), sequence(temperature=1.15), EOS)
    assert deviates(draws(logits, [sequence(seed) for seed in range(DRAWS)]), wrong) is not None
