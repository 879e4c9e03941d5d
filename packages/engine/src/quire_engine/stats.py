"""What an engine counts: a snapshot that crosses the link with every step. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from quire_engine.sequence import FinishReason

GAUGES = frozenset({"running", "waiting", "kv_usage"})
"""What Stats say of this moment. All else is counted."""


class Stats(msgspec.Struct, frozen=True, array_like=True):
    """How an engine stands: gauges of this moment first, then counters since its start."""

    running: int = 0
    """Sequences that hold blocks and are computed."""
    waiting: int = 0
    """Sequences in line, and choices that wait for their prompt to be computed."""
    kv_usage: float = 0.0
    """Share of the KV cache's blocks that are referenced, from 0 to 1."""
    prefix_cache_queries: int = 0
    """Prompt tokens looked up in the prefix cache."""
    prefix_cache_hits: int = 0
    """Prompt tokens found there."""
    preemptions: int = 0
    """Times a sequence gave its blocks back to be computed again later."""
    prompt_tokens: int = 0
    """Tokens of prompts taken in, each request's once."""
    generation_tokens: int = 0
    """Tokens drawn."""
    finished: dict[FinishReason, int] = {}
    """Choices that ended, by reason."""
    steps: int = 0
    """Batches that were computed."""
    busy_seconds: float = 0.0
    """Time that they took, with what lies between two of them while there is work: telling, and hearing what is new."""
    computed_tokens: int = 0
    """Tokens in them, of prompts and answers: not what came from the prefix cache, but what was computed again."""
    failed_steps: int = 0
    """Batches that could not be computed as a whole, and were in parts."""
    mended_blocks: int = 0
    """Blocks of the KV cache that held what was no number."""
    corrupted_requests: int = 0
    """Requests for which the model gave no numbers at least once, whatever came of it."""

    def after(self, before: Stats) -> Stats:
        """How an engine stands that took the place of one that has ended: its gauges, and what both have counted."""
        counted = {
            name: getattr(before, name) + getattr(self, name)
            for name in self.__struct_fields__
            if name not in GAUGES and name != "finished"
        }
        finished = Counter(before.finished)
        finished.update(self.finished)
        return msgspec.structs.replace(self, **counted, finished=dict(finished))


@dataclass(slots=True)
class Counters:
    """The counters behind Stats. Only the Scheduler changes them."""

    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: Counter[FinishReason] = field(default_factory=Counter)
    steps: int = 0
    busy_seconds: float = 0.0
    """Only the Engine, which has a clock, changes these."""
    computed_tokens: int = 0
    failed_steps: int = 0
    """Only the Engine, which computes them in parts, changes these, and the next two."""
    mended_blocks: int = 0
    corrupted_requests: int = 0
