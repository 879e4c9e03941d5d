"""What the engine asks of whatever computes its batches. It knows no tensors."""

from __future__ import annotations

from typing import Protocol

from quire_engine.scheduling.batch import Batch, SpanResult


class Pending(Protocol):
    """A batch on its way."""

    def wait(self) -> list[SpanResult]:
        """One result for each span of the batch, in order; returns when they are there."""
        ...


class Runner(Protocol):
    """Model, KV cache, attention and sampler behind two verbs."""

    def run(self, batch: Batch) -> Pending:
        """Start computing a batch, which is not empty."""
        ...

    def warm_up(self) -> None:
        """Do the slow things of a first pass before the first request comes."""
        ...

    def improve(self) -> bool:
        """Use an idle moment to become faster, a second at most; False when there is nothing to do."""
        ...

    def close(self) -> None:
        """Let go of model and cache."""
        ...
