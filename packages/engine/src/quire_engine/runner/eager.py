"""Pack, model, sample: a batch computed as it comes, on any device. The specification of every faster runner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quire_engine.attention import AttentionBackend
from quire_engine.config import LogprobsMode
from quire_engine.kv.cache import KVCache
from quire_engine.model.forward import Forward
from quire_engine.model.seam import Pass
from quire_engine.runner.pack import PackedBatch, Packer
from quire_engine.runner.rehearsal import made_up
from quire_engine.sampling.base import Step
from quire_engine.sampling.logprobs import Scores, score
from quire_engine.sampling.sampler import Sampled, Sampler
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_engine.sequence import TokenLogprobs

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
        return self.scores.read([self.count] * len(self.scores.targets))


@dataclass(frozen=True, slots=True)
class EagerPending:
    """A computed batch whose tokens may still be on the device."""

    sampling: list[int]
    """Numbers of the spans that sample."""
    sampled: Sampled | None
    prompt: list[PromptScores]
    """In the order of rows."""
    spans: int

    def wait(self) -> list[SpanResult]:
        """One result for each span."""
        results = [SpanResult()] * self.spans
        if self.sampled is not None:
            for span, result in zip(self.sampling, self.sampled.read(), strict=True):
                results[span] = result
        for part in self.prompt:
            so_far = results[part.span]
            results[part.span] = replace(so_far, prompt_logprobs=(*so_far.prompt_logprobs, *part.read()))
        return results


class EagerRunner:
    """Runs batches through a transformers model, one after the other. Owns the KV cache and the seats."""

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

    @torch.inference_mode()
    def run(self, batch: Batch) -> EagerPending:
        """Compute a batch; on a CUDA device the work is only queued when this returns."""
        if batch.copies:
            sources, targets = torch.tensor(batch.copies, device=self._device).unbind(1)
            self._cache.copy_blocks(sources, targets)
        packed = self._packer.pack(batch)
        sampling = [number for number, span in enumerate(batch.spans) if span.samples]
        last_rows = torch.from_numpy(packed.last_rows[sampling]).to(self._device)  # [R]
        logits, prompt = self._compute(packed, last_rows)
        sampled = None
        if sampling:
            step = Step(packed.stops[sampling], packed.ids[last_rows])
            sampled = self._sampler.sample(logits, [batch.spans[number].sequence for number in sampling], step)
        return EagerPending(sampling, sampled, prompt, len(batch.spans))

    def _compute(self, packed: PackedBatch, last_rows: Tensor) -> tuple[Tensor, list[PromptScores]]:
        """The logits to sample from, and the scores of prompt rows that are asked for."""
        quire = Pass(self._cache, packed.layout.slots, self._attention.plan(packed.layout))
        parts = list(self._prompt_parts(packed))
        if not parts:
            return self._forward.logits(packed.ids, packed.positions, last_rows, quire, packed.given), []
        several = self._forward.logits_in_parts(
            packed.ids, packed.positions, [last_rows, *(part.rows for part in parts)], quire, packed.given
        )
        logits = next(several)
        return logits, [part.score(own, self._logprobs_mode) for part, own in zip(parts, several, strict=True)]

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
                    targets=torch.tensor(sequence.tokens[start + 1 : stop + 1], device=self._device),
                    count=count,
                )

    def warm_up(self) -> None:
        """One small pass with a draw and scores, so that the first request does not pay for first-time work."""
        self.run(made_up(sequences=1, tokens=4, block_size=self._packer.block_size)).wait()

    def close(self) -> None:
        """Nothing to stop; memory goes with the runner."""
