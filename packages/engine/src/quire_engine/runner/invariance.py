"""At load: does a sequence's company change a bit of its logits? It knows runners, no model."""

from __future__ import annotations

import torch
from torch import Tensor

from quire_engine.errors import ModelNotSupported
from quire_engine.kv.pool import Block
from quire_engine.runner.eager import EagerRunner
from quire_engine.scheduling.batch import Batch, Span
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

LENGTH = 83
"""Tokens of the sequence that is watched: more than two blocks of rows on a CPU."""
STEPS = (
    ((1, 40, 41, 1), 3),
    ((50, 32, 1), 70),
    ((81, 1, 1), 200),
    ((3, 3, 70, 1, 2, 4), 0),
    ((2, 5, 7, 66, 1, 1, 1), 1),
)
"""How its tokens are spread over steps, and how many rows are beside it in each: steps of a few rows too."""
BLOCKS = 64
BLOCK_SIZE = 16


@torch.inference_mode()
def prove_invariance(runner: EagerRunner, *, architecture: str, vocab_size: int, way_out: str) -> None:
    """Compare one sequence's keys, values and last logits, computed in pieces and in company, bit for bit.

    `runner` needs `BLOCKS` blocks of `BLOCK_SIZE` tokens, and two seats. ModelNotSupported if company changes anything.
    """
    tokens = torch.randint(vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = _computed(runner, tokens, (LENGTH,), 0)
    for cuts, beside in STEPS:
        got = _computed(runner, tokens, cuts, beside)
        difference = max(float((one - other).abs().max()) for one, other in zip(got, wanted, strict=True))
        if difference:
            raise ModelNotSupported(
                f"batch_invariant cannot be kept: {architecture} computes something else for a sequence in company "
                f"than alone (by up to {difference:.2g}, in steps of {cuts} with {beside} other rows); {way_out}"
            )


def _computed(runner: EagerRunner, tokens: list[int], cuts: tuple[int, ...], beside: int) -> list[Tensor]:
    """What is known after all tokens: logits, then every layer's keys and values; steps of `cuts`, behind others."""
    half = BLOCKS // 2
    watched = _sequence(tokens, [Block(index) for index in range(half)])
    start = 0
    for length in cuts:
        other = _sequence((tokens * 3)[:beside], [Block(index) for index in range(half, BLOCKS)])
        spans = (Span(other, 0, beside), Span(watched, start, length))
        logits, _ = runner.compute(runner.pack(Batch(spans if beside else spans[1:])))
        start += length
        other.is_running = False
    watched.is_running = False
    caches = (*runner.cache.keys, *runner.cache.values)
    return [logits[-1].float(), *(cache.flatten(0, 1)[:LENGTH].float() for cache in caches)]


def _sequence(tokens: list[int], blocks: list[Block]) -> Sequence:
    sequence = Sequence(0, 0, tokens, len(tokens), SamplingParams(temperature=0), seed=0, blocks=blocks)
    sequence.is_running = True
    return sequence
