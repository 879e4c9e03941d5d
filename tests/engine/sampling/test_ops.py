"""The sampler draws what the sampling ops of quire_kernels draw for the same parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from quire_engine.sampling.base import Step
from quire_engine.sampling.sampler import Sampler
from quire_engine.sequence import Sequence
from quire_kernels import draw, penalties, uniforms
from quire_protocol import SamplingParams

VOCAB = 256
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0},
    {"temperature": 0.005},
    {"temperature": 0.6, "top_k": 7},
    {"top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 0.8, "top_k": 30, "top_p": 0.7, "min_p": 0.01},
    {"repetition_penalty": 1.4, "presence_penalty": 0.7, "frequency_penalty": 0.3, "top_p": 0.95},
)


@pytest.mark.parametrize("is_tied", [False, True], ids=["distinct", "tied"])
def test_tokens_are_the_engine_s(is_tied: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = 40 * len(KINDS)
    logits = 3 * torch.randn(rows, VOCAB, generator=generator)
    logits = (2 * logits).round() / 2 if is_tied else logits
    history = torch.randint(VOCAB, (rows, 20), generator=generator)
    params = [SamplingParams(**KINDS[row % len(KINDS)]) for row in range(rows)]
    sequences = [
        Sequence(0, 0, tokens, 6, each, seed=row)
        for row, (each, tokens) in enumerate(zip(params, history.tolist(), strict=True))
    ]
    sampler = Sampler(vocab_size=VOCAB, eos_token_ids=(), device=torch.device("cpu"))
    step = Step(np.full(rows, 20), history[:, -1])
    expected = [result.token for result in sampler.sample(logits.clone(), sequences, step).read()]

    def column(name: str) -> torch.Tensor:
        return torch.tensor([getattr(each, name) for each in params], dtype=torch.float32)

    every = torch.arange(rows)
    strengths = (column(f"{name}_penalty") for name in ("repetition", "presence", "frequency"))
    penalties(logits, every, history, every * 0, every * 0 + 6, every * 0 + 20, *strengths)
    tokens, best = draw(
        logits,
        uniforms(every, every * 0, every * 0 + 20),
        column("temperature"),
        top_k=column("top_k").long().clamp(min=0),
        top_p=column("top_p"),
        min_p=column("min_p"),
    )
    assert tokens.tolist() == expected
    assert torch.equal(best, logits.amax(-1))
