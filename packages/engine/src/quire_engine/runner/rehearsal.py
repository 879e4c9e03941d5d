"""Made-up batches for passes before the first request: to warm up, and to measure the largest step's memory."""

from __future__ import annotations

from quire_engine.kv.pool import Block
from quire_engine.scheduling.batch import Batch, Span
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

PARAMS = SamplingParams(temperature=0.7, top_p=0.9, repetition_penalty=1.1, logprobs=1)
"""Makes every costly part of sampling run."""


def made_up(*, sequences: int, tokens: int, block_size: int) -> Batch:
    """Prompts of `tokens` tokens in all, spread over `sequences`; all of them lie in the same first blocks."""
    lengths = [tokens // sequences + (number < tokens % sequences) for number in range(sequences)]
    blocks = [Block(index) for index in range(-(-max(lengths) // block_size))]
    return Batch(tuple(Span(_sequence(length, blocks), 0, length) for length in lengths if length))


def probe(block: Block) -> Batch:
    """One token of a sequence that nobody asked for, in this block, which must be free to be written to."""
    return Batch((Span(_sequence(1, [block]), 0, 1),))


def _sequence(length: int, blocks: list[Block]) -> Sequence:
    return Sequence(
        handle=-1, index=0, tokens=[0] * length, prompt_length=length, params=PARAMS, seed=0, blocks=list(blocks)
    )
