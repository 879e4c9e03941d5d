"""What guides allow is all that is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quire_engine.errors import RequestError
from quire_engine.sampling.base import Step
from quire_engine.sampling.sampler import Sampler
from quire_engine.scheduling.batch import SpanResult
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

VOCAB = 77


@dataclass
class Allowing:
    """A guide that allows these tokens, if it is ready."""

    tokens: tuple[int, ...] | None
    is_ready: bool = True
    failure: Exception | None = None
    param: str | None = "response_format"
    is_over: bool = False

    def begin(self) -> None:
        """It always has."""

    @property
    def is_late(self) -> bool:
        return not self.is_ready

    def wait(self, seconds: float) -> bool:
        return self.is_ready

    @property
    def mask(self) -> Any:
        if self.tokens is None:
            return None
        bits = np.zeros(96, dtype=np.uint8)
        bits[list(self.tokens)] = 1
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def take(self, token: int, room: int) -> tuple[int, ...]:
        return (token,)


def sequence(guide: Allowing | None, **params: Any) -> Sequence:
    return Sequence(0, 0, [1, 2, 3], 2, SamplingParams(**{"temperature": 0} | params), seed=1, guide=guide)


def sample(logits: Tensor, *sequences: Sequence, **options: Any) -> list[SpanResult]:
    own = Sampler(vocab_size=VOCAB, eos_token_ids=(), device=torch.device("cpu"), **options)
    step = Step(np.array([len(one.tokens) for one in sequences]), torch.tensor([one.tokens[-1] for one in sequences]))
    return own.sample(logits.clone(), list(sequences), step).read()


def logits_of(rows: int) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("allowed", [(0,), (7, 8), (31, 32, 63, 64), (76,), tuple(range(VOCAB))])
@pytest.mark.parametrize("temperature", [0, 2.0])
def test_a_row_draws_only_what_its_guide_allows(allowed: tuple[int, ...], temperature: float) -> None:
    sequences = [sequence(Allowing(allowed), temperature=temperature) for _ in range(12)]
    assert all(result.token in allowed for result in sample(logits_of(12), *sequences))


def test_rows_beside_it_draw_what_they_draw_alone() -> None:
    logits = logits_of(3)
    plain, free = sequence(None), sequence(Allowing(None))
    results = sample(logits, plain, sequence(Allowing((5,))), free)
    assert [results[0].token, results[2].token] == logits[[0, 2]].argmax(-1).tolist()
    assert results[1].token == 5


def test_a_row_whose_guide_is_not_ready_draws_nothing_and_is_no_error() -> None:
    results = sample(logits_of(2), sequence(Allowing((5,), is_ready=False)), sequence(Allowing((6,))))
    assert results[0] == SpanResult()
    assert results[1].token == 6


def test_a_row_whose_guide_has_failed_says_why() -> None:
    failed = Allowing((5,), failure=RequestError("too complex", param="structured_outputs"))
    results = sample(logits_of(2), sequence(failed), sequence(None))
    assert (results[0].error, results[0].param) == ("too complex", "structured_outputs")
    assert results[1].error is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"allowed_token_ids": (6,)}, "allowed_token_ids"),
        ({"bad_words_token_ids": ((5,),), "bad_words": ("x",)}, "bad_words"),
    ],
)
def test_what_contradicts_a_guide_is_named_beside_it(fields: dict[str, Any], named: str) -> None:
    (result,) = sample(logits_of(1), sequence(Allowing((5,)), **fields))
    assert result.error == f"No token is left to draw: response_format and {named} exclude them all."
    assert result.param == "response_format"


def test_a_bias_and_penalties_choose_among_what_is_allowed() -> None:
    logits = logits_of(1)
    biased = sequence(Allowing((5, 6)), logit_bias={6: 100.0, 7: 100.0}, repetition_penalty=1.5)
    assert sample(logits, biased)[0].token == 6


@pytest.mark.parametrize("mode", ["raw_logprobs", "processed_logprobs"])
def test_what_is_reported_is_the_models_own_or_what_was_left(mode: Any) -> None:
    (result,) = sample(logits_of(1), sequence(Allowing((5,)), logprobs=1), logprobs_mode=mode)
    assert result.logprobs is not None
    assert (result.logprobs.logprob == 0) == (mode == "processed_logprobs")
