"""An engine without a model: a runner whose tokens are a pure function of what it finds in a make-believe KV cache.

Because the runner reads its context back through the block tables, a schedule that shares, frees or publishes a wrong
block changes the answer. No torch.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple
from zlib import crc32

from quire_engine.config import Decisions, EngineConfig
from quire_engine.engine import Engine
from quire_engine.errors import ModelNotSupported
from quire_engine.scheduling.batch import Batch, BlockCopy, Span, SpanResult
from quire_engine.sequence import Emission, Sequence, TokenLogprobs

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


def likeliest(context: Seq[int], count: int) -> list[tuple[int, float]]:
    """Tokens that may follow, best first, with log-probabilities: different ones after every context."""
    state = crc32(f"{list(context)}".encode())
    first, stride = state % VOCABULARY, 1 + state % (VOCABULARY - 1)
    tokens = [(first + place * stride) % VOCABULARY for place in range(min(count, VOCABULARY))]
    steps = accumulate(crc32(f"{state}/{place}".encode()) % 64 for place in range(len(tokens)))
    return [(token, -step / 32) for token, step in zip(tokens, steps, strict=True)]


class Entry(NamedTuple):
    """What stands in one slot of the cache. As with keys and values, every token before has its part in it."""

    token: int
    history: int


def _extended(history: int, token: int) -> int:
    return crc32(token.to_bytes(4, "little"), history)


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
        self.cache: dict[int, Entry] = {}
        self.drawn: dict[Sequence, int] = {}
        """The tokens of the step before, which the next one may begin with before the scheduler has seen them."""
        self.steps = 0
        self.batches: list[list[tuple[int, int, int, int]]] = []
        """What each step computed: handle, choice, start and length of its spans."""
        self.is_closed = False

    def run(self, batch: Batch) -> Done:
        self.steps += 1
        self.batches.append([(s.sequence.handle, s.sequence.index, s.start, s.length) for s in batch.spans])
        if self.steps in self.failing_steps:
            raise RuntimeError("a step that was told to fail")
        self._copy(batch.copies)
        for span in batch.spans:
            self._store(span)
        results = [self._result(span) for span in batch.spans]
        self.drawn = {
            span.sequence: result.token
            for span, result in zip(batch.spans, results, strict=True)
            if result.token is not None
        }
        return Done(results)

    def warm_up(self) -> None:
        pass

    def improve(self) -> bool:
        return False

    def mend(self, blocks: Seq[int]) -> list[int]:
        return []  # all that a token can be is a number

    def close(self) -> None:
        self.is_closed = True

    def _slot(self, sequence: Sequence, position: int) -> int:
        return sequence.blocks[position // self.block_size].index * self.block_size + position % self.block_size

    def _copy(self, copies: Iterable[BlockCopy]) -> None:
        read = {
            target * self.block_size + offset: self.cache.get(source * self.block_size + offset)
            for source, target in copies
            for offset in range(self.block_size)
        }
        self.cache.update({slot: entry for slot, entry in read.items() if entry is not None})

    def _store(self, span: Span) -> None:
        assert span.length > 0
        history = self._entry(span.sequence, span.start - 1).history if span.start else 0
        for position in range(span.start, span.stop):
            token = self.drawn[span.sequence] if span.ahead else span.sequence.tokens[position]
            history = _extended(history, token)
            self.cache[self._slot(span.sequence, position)] = Entry(token, history)

    def _read(self, sequence: Sequence, length: int) -> list[int]:
        """The tokens that its blocks hold, which must be there as its own."""
        context, history = [], 0
        for position in range(length):
            entry = self._entry(sequence, position)
            history = _extended(history, entry.token)
            assert entry.history == history, "a block holds what was computed in another context"
            context.append(entry.token)
        return context

    def _entry(self, sequence: Sequence, position: int) -> Entry:
        return self.cache[self._slot(sequence, position)]

    def _result(self, span: Span) -> SpanResult:
        sequence = span.sequence
        context = self._read(sequence, span.stop)
        token = self.script(sequence, context) if span.samples else None
        scores = None
        if sequence.params.logprobs is not None and token is not None:
            ranked = likeliest(context, sequence.params.logprobs)
            ids, logprobs = zip(*ranked, strict=True) if ranked else ((), ())
            scores = TokenLogprobs(token, -1.0, 1, ids, logprobs)
        return SpanResult(token, scores, self._prompt_scores(span))

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


def scripted_engine(
    script: Script = checksum, *, failing_steps: Collection[int] = (), seed: int = 0, **changes: Any
) -> Engine:
    """An Engine on a ScriptedRunner; `changes` are to the decisions."""
    decisions = scripted_decisions(**changes)
    return Engine(ScriptedRunner(decisions.block_size, script, failing_steps), decisions, seed=seed)


# What links may be asked to load: by value in a thread, by name in a process.


def load_scripted(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine whose answers depend on the whole prompt; it takes context, seats, budget and seed from `config`."""
    asked = config.model_dump(include={"max_model_len", "max_num_seqs", "max_num_batched_tokens"}, exclude_none=True)
    return scripted_engine(seed=config.seed, **asked)


def load_steered(config: EngineConfig, *, progress: bool = False) -> Engine:
    """The same, where requests may have an extra argument "steer", of which nothing comes."""
    return scripted_engine(seed=config.seed, xargs=("steer",))


def load_counting(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that counts up from the prompt's last token."""
    return scripted_engine(count_up)


def load_endless(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine with room for answers that no test waits for."""
    return scripted_engine(count_up, max_model_len=200_000, num_blocks=16_384, block_size=16)


def load_narrow(config: EngineConfig, *, progress: bool = False) -> Engine:
    """The same with one seat, and one place in line."""
    room = {"max_model_len": 200_000, "num_blocks": 16_384, "block_size": 16}
    return scripted_engine(count_up, max_num_seqs=1, max_num_queued_reqs=1, **room)


def load_failing(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that cannot compute its first request's third token."""

    def fail_once(sequence: Sequence, context: Seq[int]) -> int:
        if sequence.arrival == 0 and sequence.output_length == 2:
            raise RuntimeError("a token that was told to fail")
        return checksum(sequence, context)

    return scripted_engine(fail_once)


def load_refused(config: EngineConfig, *, progress: bool = False) -> Engine:
    """A model that cannot be served."""
    raise ModelNotSupported("this model is a teapot")


def load_broken(config: EngineConfig, *, progress: bool = False) -> Engine:
    """Loading that fails by itself."""
    raise RuntimeError("no memory left")


def load_mortal(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that takes its process along in its third step."""

    def die_at_last(sequence: Sequence, context: Seq[int]) -> int:
        if sequence.output_length == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 5

    return scripted_engine(die_at_last)


def load_toxic(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine whose process ends by whatever begins with 66, as soon as that has two tokens."""

    def die_of_it(sequence: Sequence, context: Seq[int]) -> int:
        if context[0] == 66 and sequence.output_length == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return checksum(sequence, context)

    return scripted_engine(die_of_it, seed=config.seed)


def load_stumbling(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that ends by itself in its third step, whatever is done about steps that fail."""

    class Stumbling(Engine):
        def step(self) -> list[Emission]:
            if isinstance(self.runner, ScriptedRunner) and self.runner.steps == 2:
                raise RuntimeError("the floor is gone")
            return super().step()

    decisions = scripted_decisions()
    return Stumbling(ScriptedRunner(decisions.block_size), decisions)
