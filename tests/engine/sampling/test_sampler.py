from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quire_engine.sampling.base import Step
from quire_engine.sampling.sampler import Sampler
from quire_engine.scheduling.batch import SpanResult
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

VOCAB = 40


def sequence(seed: int = 0, index: int = 0, tokens: tuple[int, ...] = (1, 2, 3), **params: Any) -> Sequence:
    return Sequence(0, index, list(tokens), 2, SamplingParams(**params), seed=seed)


def sampler() -> Sampler:
    return Sampler(vocab_size=VOCAB, eos_token_ids=(), device=torch.device("cpu"))


def sample(logits: Tensor, sequences: list[Sequence], own: Sampler | None = None) -> list[SpanResult]:
    step = Step(np.array([len(one.tokens) for one in sequences]), torch.tensor([one.tokens[-1] for one in sequences]))
    return (own or sampler()).sample(logits.clone(), sequences, step).read()


def random_logits(rows: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


EVERYTHING = {
    "temperature": 0.8,
    "top_p": 0.8,
    "top_k": 20,
    "min_p": 0.02,
    "repetition_penalty": 1.3,
    "presence_penalty": 0.5,
    "logit_bias": {4: 2.0},
}


def test_a_seeded_row_alone_draws_what_it_draws_in_a_crowd() -> None:
    logits = random_logits(64)
    kinds = [{}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}, EVERYTHING, {"logprobs": 2}]
    crowd = [sequence(seed, seed % 3, tuple(range(1, 4 + seed % 5)), **kinds[seed % 6]) for seed in range(64)]
    together = sample(logits, crowd)
    assert together == [sample(logits[row : row + 1], [one])[0] for row, one in enumerate(crowd)]


def test_choices_and_positions_draw_differently() -> None:
    logits = torch.zeros(40, VOCAB)
    choices = {result.token for result in sample(logits, [sequence(5, index) for index in range(40)])}
    positions = {result.token for result in sample(logits, [sequence(5, 0, (1,) * (2 + n)) for n in range(40)])}
    assert len(choices) > 15
    assert len(positions) > 15


def test_greedy_takes_the_largest_logit_in_the_models_own_dtype() -> None:
    logits = random_logits(3).bfloat16()
    results = sample(logits, [sequence(temperature=0) for _ in range(3)])
    assert [result.token for result in results] == logits.argmax(-1).tolist()


def test_logprobs_are_the_models_own_and_exactly_as_many_as_asked() -> None:
    logits = random_logits(4)
    asks: list[dict[str, Any]] = [{}, {"logprobs": 0}, {"logprobs": 3}, {"logprobs": -1}]
    results = sample(logits, [sequence(temperature=0.7, logit_bias={7: 100.0}, **ask) for ask in asks])
    raw = logits.log_softmax(-1)
    assert results[0].logprobs is None
    for row, count in ((1, 0), (2, 3), (3, VOCAB)):
        scores = results[row].logprobs
        assert scores is not None
        assert scores.token_id == results[row].token == 7
        assert scores.logprob == pytest.approx(float(raw[row, 7]), abs=1e-5)
        assert scores.rank == int((raw[row] > raw[row, 7]).sum()) + 1
        assert scores.top_logprobs == pytest.approx(raw[row].topk(count).values.tolist(), abs=1e-5)
        assert list(scores.top_ids) == raw[row].topk(count).indices.tolist()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_that_is_no_number_is_that_rows_error_alone(poison: float, temperature: float) -> None:
    logits = random_logits(3)
    healthy = sample(logits, [sequence(seed, temperature=temperature) for seed in range(3)])
    logits[1, 17] = poison
    results = sample(logits, [sequence(seed, temperature=temperature) for seed in range(3)])
    assert "not finite" in (results[1].error or "")
    assert [results[0], results[2]] == [healthy[0], healthy[2]]


def test_parameters_that_exclude_every_token_are_that_rows_error_alone() -> None:
    nothing = sequence(allowed_token_ids=(5,), bad_words_token_ids=((5,),))
    results = sample(random_logits(2), [nothing, sequence(temperature=0)])
    assert "No token is left" in (results[0].error or "")
    assert (results[0].param, results[1].error) == ("allowed_token_ids", None)


def test_members_may_come_and_go_between_steps() -> None:
    own = sampler()
    logits = random_logits(3)
    penalised = sequence(temperature=0, repetition_penalty=3.0, tokens=(1, 2, 3))
    other = sequence(temperature=0)
    for batch in ([penalised], [other, penalised], [penalised, other], [other]):
        rows = logits[: len(batch)]
        assert sample(rows, batch, own) == sample(rows, batch)
        for one in batch:
            one.tokens.append(int(logits.argmax()) % VOCAB)


@pytest.mark.parametrize("temperature", [0, 1e-3, 0.5, 1])
def test_nothing_left_to_draw_is_that_rows_error_whatever_else_it_asks_for(temperature: float) -> None:
    # 40 is no multiple of the draw's blocks: its padding must not be taken for a token.
    asked: dict[str, Any] = {"logprobs": 2, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 2.0}
    nothing = sequence(allowed_token_ids=(5,), bad_words_token_ids=((5,),), temperature=temperature, **asked)
    results = sample(random_logits(2), [nothing, sequence(temperature=0, logprobs=1)])
    assert "o token is left" in (results[0].error or "")
    assert results[1].logprobs is not None
