"""An engine without a model: a runner whose tokens are a pure function of what it finds in a make-believe KV cache.

Because the runner reads its context back through the block tables, a schedule that shares, frees or publishes a wrong
block changes the answer. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from quire_engine.config import Decisions
from quire_engine.engine import Engine
from quire_engine.scheduling.batch import Batch, Span, SpanResult
from quire_engine.sequence import Sequence, TokenLogprobs

VOCABULARY = 97
EOS = 0

Script = Callable[[Sequence, Seq[int]], int]
"""The next token of a sequence, given the context that its blocks hold."""


def checksum(sequence: Sequence, context: Seq[int]) -> int:
    """A token that depends on the whole context and, unless greedy, on the sequence's own seed and choice."""
    draw = "" if sequence.params.greedy else f"{sequence.seed}/{sequence.index}"
    return crc32(f"{list(context)}{draw}".encode()) % VOCABULARY


def count_up(sequence: Sequence, context: Seq[int]) -> int:
    """The number after the last one, never the end-of-sequence token."""
    return context[-1] % (VOCABULARY - 1) + 1


@dataclass(frozen=True)
class Done:
    """Results that are there already."""

    results: list[SpanResult]

    def wait(self) -> list[SpanResult]:
        return self.results


class ScriptedRunner:
    """Stores token ids where a model stores keys and values, and draws what the script says."""

    def __init__(self, block_size: int, script: Script = checksum, failing_steps: Collection[int] = ()) -> None:
        self.block_size = block_size
        self.script = script
        self.failing_steps = failing_steps
        self.cache: dict[int, int] = {}
        self.steps = 0
        self.batches: list[list[tuple[int, int, int, int]]] = []
        """What each step computed: handle, choice, start and length of its spans."""
        self.is_closed = False

    def run(self, batch: Batch) -> Done:
        self.steps += 1
        self.batches.append([(s.sequence.handle, s.sequence.index, s.start, s.length) for s in batch.spans])
        if self.steps in self.failing_steps:
            raise RuntimeError("a step that was told to fail")
        for span in batch.spans:
            for position in range(span.start, span.stop):
                self.cache[self._slot(span.sequence, position)] = span.sequence.tokens[position]
        return Done([self._result(span) for span in batch.spans])

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def _slot(self, sequence: Sequence, position: int) -> int:
        return sequence.blocks[position // self.block_size].index * self.block_size + position % self.block_size

    def _result(self, span: Span) -> SpanResult:
        sequence = span.sequence
        context = [self.cache[self._slot(sequence, position)] for position in range(span.stop)]
        token = self.script(sequence, context) if span.samples else None
        wants = sequence.params.logprobs is not None and token is not None
        return SpanResult(
            token,
            TokenLogprobs(token, -1.0, 1) if wants else None,
            self._prompt_scores(span),
        )

    def _prompt_scores(self, span: Span) -> tuple[TokenLogprobs, ...]:
        sequence = span.sequence
        if sequence.params.prompt_logprobs is None or sequence.index != 0:
            return ()
        last = min(span.stop, sequence.prompt_length - 1)
        return tuple(TokenLogprobs(sequence.tokens[p], -float(p), 1) for p in range(span.start + 1, last + 1))


def scripted_decisions(**changes: Any) -> Decisions:
    """Decisions for an engine without a model."""
    settled: dict[str, Any] = {
        "model_path": "scripted",
        "architecture": "Scripted",
        "dtype": "float32",
        "device": "cpu",
        "parameters": 0,
        "vocab_size": VOCABULARY,
        "eos_token_ids": (EOS,),
        "max_model_len": 256,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 64,
        "block_size": 4,
        "num_blocks": 256,
        "kv_cache_bytes": 0,
        "attention_backend": "none",
        "enable_prefix_caching": True,
        "scheduling_policy": "fcfs",
        "max_logprobs": 20,
        "sampling_defaults": {},
    }
    return Decisions(**settled | changes)


def scripted_engine(script: Script = checksum, *, failing_steps: Collection[int] = (), **changes: Any) -> Engine:
    """An Engine on a ScriptedRunner; `changes` are to the decisions."""
    decisions = scripted_decisions(**changes)
    return Engine(ScriptedRunner(decisions.block_size, script, failing_steps), decisions)
