"""The transforms, all together and over growing sequences, against the plain meaning of the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.plain_sampler import EXCLUDED, distribution, processed
from torch import Tensor

from quire_engine.sampling.base import History, Rows, Step
from quire_engine.sampling.sampler import Columns
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

VOCAB = 24
EOS = (3,)
TOKENS = st.integers(0, VOCAB - 1)

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.0]),
        "top_k": st.sampled_from([-1, 0, 1, 3, 100]),
        "top_p": st.sampled_from([0.05, 0.5, 0.9, 1.0]),
        "min_p": st.sampled_from([0.0, 0.1, 0.7, 1.0]),
        "repetition_penalty": st.sampled_from([0.5, 1.0, 1.8]),
        "presence_penalty": st.sampled_from([-2.0, 0.0, 1.5]),
        "frequency_penalty": st.sampled_from([-1.0, 0.0, 0.7]),
        "logit_bias": st.dictionaries(TOKENS, st.sampled_from([-100.0, -1.5, 3.0]), max_size=4),
        "allowed_token_ids": st.lists(TOKENS, min_size=6, max_size=12).map(tuple),
        "bad_words_token_ids": st.lists(st.lists(TOKENS, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
        "stop_token_ids": st.lists(TOKENS, max_size=2).map(tuple),
        "min_tokens": st.integers(0, 4),
    },
)


def sequence(prompt: list[int], output: list[int], embeds: bytes = b"", **params: Any) -> Sequence:
    return Sequence(0, 0, prompt + output, len(prompt), SamplingParams(**params), seed=0, embeds=embeds)


def columns_of(sequences: list[Sequence], vocab_size: int = VOCAB) -> Columns:
    return Columns(
        sequences,
        vocab_size=vocab_size,
        eos_token_ids=EOS,
        device=torch.device("cpu"),
    )


def shown(columns: Columns, logits: Tensor, step: Step) -> Tensor:
    """What every row's token is drawn from."""
    return columns.draws.limited(columns.transform(logits.clone(), step), torch.arange(len(logits)))


def step_of(sequences: list[Sequence]) -> Step:
    lengths = np.array([len(own.tokens) for own in sequences])
    return Step(lengths, torch.tensor([own.tokens[-1] for own in sequences]))


def probabilities(logits: Tensor, sequences: list[Sequence]) -> Tensor:
    greedy = torch.tensor([[own.params.greedy] for own in sequences])
    one_hot = torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0)
    return torch.where(greedy, one_hot, logits.softmax(-1))


ROWS = st.lists(
    st.builds(
        lambda prompt, output, embeds, params: sequence(prompt, output, embeds, **params),
        st.lists(TOKENS, min_size=1, max_size=6),
        st.lists(TOKENS, max_size=6),
        st.sampled_from([b"", b"rows"]),
        PARAMS,
    ),
    min_size=1,
    max_size=5,
)
DRAWN = st.lists(st.lists(TOKENS, min_size=5, max_size=5), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(ROWS, DRAWN, st.integers(0, 2**32 - 1))
def test_a_batch_that_grows_is_treated_row_by_row_as_the_parameters_mean(
    sequences: list[Sequence], drawn: list[list[int]], seed: int
) -> None:
    columns = columns_of(sequences)
    generator = torch.Generator().manual_seed(seed)
    for tokens in drawn:
        logits = 3 * torch.randn(len(sequences), VOCAB, generator=generator)
        got = probabilities(shown(columns, logits, step_of(sequences)), sequences)
        for row, own, result in zip(logits.tolist(), sequences, got.tolist(), strict=True):
            if max(processed(row, own, EOS)) > EXCLUDED:
                assert result == pytest.approx(distribution(row, own, EOS), abs=2e-5)
        for own, token in zip(sequences, tokens, strict=False):
            own.tokens.append(token)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(0, 2**32 - 1))
def test_tokens_are_drawn_from_what_is_shown(sequences: list[Sequence], seed: int) -> None:
    logits = 3 * torch.randn(len(sequences), VOCAB, generator=torch.Generator().manual_seed(seed))
    step, columns = step_of(sequences), columns_of(sequences)
    lengths = np.array([len(own.tokens) for own in sequences])
    tokens, best = columns.draws.draw(columns.transform(logits.clone(), step), lengths)
    plain = columns_of(
        [sequence([*range(len(own.tokens))], [], temperature=own.params.temperature and 1) for own in sequences]
    )
    expected, _ = plain.draws.draw(shown(columns_of(sequences), logits, step), lengths)
    has_any = best.isfinite()
    assert torch.equal(tokens[has_any], expected[has_any])


def test_a_prompt_of_embeddings_has_no_tokens_to_penalise() -> None:
    prompts = [sequence([1, 2], [], embeds, repetition_penalty=4.0) for embeds in (b"", b"rows")]
    logits = torch.full((2, 4), 8.0)
    ids, rows = columns_of(prompts, 4).transform(logits, step_of(prompts)).tolist()
    assert ids == [8.0, 2.0, 2.0, 8.0]
    assert rows == [8.0] * 4


def test_rows_that_ask_for_nothing_cost_nothing() -> None:
    assert columns_of([sequence([1], [], temperature=0), sequence([2], [], temperature=1)]).transforms == ()


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.3, 3.0, 50.0])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_a_nucleus_of_any_size_is_found(spread: float, top_p: float) -> None:
    size = 2000
    own = sequence([1], [], top_p=top_p, allowed_token_ids=tuple(range(0, size, 2)))
    logits = spread * torch.randn(1, size, generator=torch.Generator().manual_seed(3))
    got = shown(columns_of([own], size), logits, step_of([own]))
    allowed = logits[0, ::2].double()
    shares, order = allowed.softmax(-1).sort(descending=True)
    stays = int((shares.cumsum(-1) - shares < top_p).sum())
    least = allowed[order[stays - 1]]
    assert got.isfinite().sum() == (allowed >= least).sum()
    assert got[got.isfinite()].min() == least


def test_equal_logits_stay_or_go_together() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    for params in ({"top_k": 2}, {"top_p": 0.6}):
        own = sequence([1], [], **params)
        left = shown(columns_of([own], 5), logits, step_of([own])).isfinite()
        assert left.tolist() == [[True, True, True, True, False]]


def test_a_tiny_temperature_is_no_overflow() -> None:
    own = sequence([1], [], temperature=1e-30)
    logits = shown(columns_of([own], 3), torch.tensor([[30.0, 29.0, -50.0]]), step_of([own]))
    assert logits.softmax(-1).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_grow_by_as_many_tokens_as_must_come_are_remembered_as_they_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    sequences = [sequence([1, 2, 3][: row + 1], []) for row in range(3)]
    numbers = np.array([2, 0, 3])
    history = History(Rows(tuple(sequences), numbers, torch.from_numpy(numbers), 4, VOCAB, EOS))
    for _ in range(60):
        lengths, last = np.zeros(4, dtype=np.int64), torch.zeros(4, dtype=torch.int64)
        for row, own in zip(numbers, sequences, strict=True):
            own.tokens = own.tokens + random.integers(1, VOCAB, random.choice([0, 1, 1, 5])).tolist()
            lengths[row], last[row] = len(own.tokens), own.tokens[-1]
        table, told = history.follow(Step(lengths, last))
        assert [row[:length].tolist() for row, length in zip(table, told[:, 0], strict=True)] == [
            own.tokens for own in sequences
        ]
