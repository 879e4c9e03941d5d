"""Pack, model, sample: a batch computed as it comes, on any device. The specification of every faster runner."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from math import isnan

import torch
from torch import Tensor

from quire_engine.attention import AttentionBackend, Layout
from quire_engine.config import LogprobsMode
from quire_engine.kv.cache import KVCache
from quire_engine.model.forward import Forward
from quire_engine.model.seam import Pass
from quire_engine.runner.faults import named_faults
from quire_engine.runner.pack import PackedBatch, Packer
from quire_engine.runner.rehearsal import made_up
from quire_engine.sampling.base import Step
from quire_engine.sampling.logprobs import Scores, score
from quire_engine.sampling.sampler import NO_NUMBERS, Sampled, Sampler
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_engine.sequence import Sequence, TokenLogprobs
from quire_engine.transit import sent

SCORED_LOGITS = 1 << 24
"""Logits of prompt rows held at a time, in numbers: 64 MiB in float32, whatever the prompt's length."""


@dataclass(frozen=True, slots=True)
class PromptPart:
    """Some prompt rows of one span, to be scored together."""

    span: int
    """Its number in the batch."""
    rows: Tensor
    """[n] of the packed batch; row r predicts the token after it."""
    targets: Tensor
    """[n] the tokens that the prompt has there."""
    count: int
    """Likeliest tokens asked for."""

    def score(self, logits: Tensor, mode: LogprobsMode) -> PromptScores:
        """From the logits [n, V] of its rows."""
        return PromptScores(self.span, score(logits, self.targets, [self.count], mode), self.count)


@dataclass(frozen=True, slots=True)
class PromptScores:
    """The scores of one PromptPart."""

    span: int
    scores: Scores
    count: int

    def read(self) -> list[TokenLogprobs]:
        """To the host."""
        return self.scores.read([self.count] * self.scores.rows)


@dataclass(frozen=True, slots=True)
class EagerPending:
    """A computed batch whose tokens may still be on the device."""

    sampling: tuple[int, ...]
    """Numbers of the spans that sample."""
    sampled: Sampled | None
    prompt: list[PromptScores]
    """In the order of rows."""
    spans: int

    @named_faults()
    def wait(self) -> list[SpanResult]:
        """One result for each span."""
        results = [SpanResult()] * self.spans
        if self.sampled is not None:
            for span, result in zip(self.sampling, self.sampled.read(), strict=True):
                results[span] = result
        for part in self.prompt:
            so_far, scores = results[part.span], part.read()
            if any(isnan(each.logprob) for each in scores):
                so_far, scores = NO_NUMBERS, []
            results[part.span] = replace(so_far, prompt_logprobs=(*so_far.prompt_logprobs, *scores))
        return results


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step drew: tokens on the device, which the next step may begin with before the host has seen them."""

    tokens: Tensor
    """[R]"""
    rows: Mapping[Sequence, int]
    """Which of them is whose."""


class EagerRunner:
    """Runs batches through a model, one after the other: pack, compute, finish. Owns the KV cache and the seats."""

    def __init__(
        self,
        forward: Forward,
        cache: KVCache,
        *,
        attention: type[AttentionBackend],
        sampler: Sampler,
        packer: Packer,
        vocab_size: int,
        device: torch.device,
        logprobs_mode: LogprobsMode = "raw_logprobs",
    ) -> None:
        self._forward = forward
        self._cache = cache
        self._attention = attention
        self._sampler = sampler
        self._packer = packer
        self._vocab_size = vocab_size
        self._device = device
        self._logprobs_mode = logprobs_mode
        self._drawn = Drawn(torch.empty(0), {})

    @property
    def cache(self) -> KVCache:
        """Where keys and values are."""
        return self._cache

    @named_faults()
    @torch.inference_mode()
    def run(self, batch: Batch) -> EagerPending:
        """Compute a batch; on a CUDA device the work is only queued when this returns."""
        packed = self.pack(batch)
        return self.finish(packed, *self.compute(packed))

    @named_faults()
    @torch.inference_mode()
    def mend(self, blocks: Seq[int]) -> list[int]:
        """Zeros where the cache has no numbers."""
        return self._cache.mend(blocks)

    def pack(self, batch: Batch) -> PackedBatch:
        """The tensors of a batch, on the device; what must be copied in the cache first is copied."""
        if batch.copies:
            sources, targets = sent(batch.copies, self._device).unbind(1)
            self._cache.copy_blocks(sources, targets)
        packed = self._packer.pack(batch)
        ahead = [
            (row, self._drawn.rows[span.sequence])
            for row, span in zip(packed.last_rows.tolist(), packed.spans, strict=True)
            if span.ahead
        ]
        if ahead:
            rows, drawn = sent(ahead, self._device).unbind(1)
            packed.ids.index_copy_(0, rows, self._drawn.tokens[drawn])
        return packed

    def compute(self, packed: PackedBatch) -> tuple[Tensor, list[PromptScores]]:
        """The logits [R, V] to sample from, and the scores of prompt rows that are asked for."""
        quire = self._plan(packed.layout)
        parts = list(self._prompt_parts(packed))
        if not parts:
            return self._forward.logits(packed.ids, packed.positions, packed.sampled_rows, quire, packed.given), []
        several = self._forward.logits_in_parts(
            packed.ids, packed.positions, [packed.sampled_rows, *(part.rows for part in parts)], quire, packed.given
        )
        logits = next(several)
        return logits, [part.score(own, self._logprobs_mode) for part, own in zip(parts, several, strict=True)]

    def logits(self, ids: Tensor, positions: Tensor, rows: Tensor, layout: Layout) -> Tensor:
        """[R, V]: the logits of rows [R] of a pass with ids and positions [T], and nothing else."""
        return self._forward.logits(ids, positions, rows, self._plan(layout))

    def _plan(self, layout: Layout) -> Pass:
        return Pass(self._cache, layout.slots, self._attention.plan(layout))

    def finish(self, packed: PackedBatch, logits: Tensor, prompt: list[PromptScores]) -> EagerPending:
        """Draw the tokens, and send them on their way to the host."""
        if not packed.sampling:
            return EagerPending((), None, prompt, len(packed.spans))
        sequences = [packed.spans[number].sequence for number in packed.sampling]
        step = Step(packed.stops[list(packed.sampling)], packed.ids[packed.sampled_rows])
        sampled = self._sampler.sample(logits, sequences, step)
        self._drawn = Drawn(sampled.tokens, {sequence: row for row, sequence in enumerate(sequences)})
        return EagerPending(packed.sampling, sampled, prompt, len(packed.spans))

    def _prompt_parts(self, packed: PackedBatch) -> Iterator[PromptPart]:
        """Rows whose next token is in the prompt, of spans whose prompt is scored, in parts of bounded size."""
        size = max(1, SCORED_LOGITS // self._vocab_size)
        for number, span in enumerate(packed.spans):
            sequence, count = span.sequence, span.sequence.params.prompt_logprobs
            if count is None or not sequence.is_scoring:
                continue
            first_row = int(packed.last_rows[number]) + 1 - span.length
            last = min(span.stop, sequence.prompt_length - 1)
            for start in range(span.start, last, size):
                stop = min(start + size, last)
                row = first_row + start - span.start
                yield PromptPart(
                    span=number,
                    rows=torch.arange(row, row + stop - start, device=self._device),
                    targets=sent(sequence.tokens[start + 1 : stop + 1], self._device),
                    count=count,
                )

    def warm_up(self) -> None:
        """One small pass with a draw and scores, so that the first request does not pay for first-time work."""
        self.run(made_up(sequences=1, tokens=4, block_size=self._packer.block_size)).wait()

    def improve(self) -> bool:
        """There is nothing to do."""
        return False

    def close(self) -> None:
        """Let go of weights and cache: their memory is free when this returns, if nobody else holds them."""
        for held in ("_forward", "_cache", "_sampler", "_drawn"):
            vars(self).pop(held, None)
        gc.collect()  # the parts of a model hold each other
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
