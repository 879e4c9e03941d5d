"""What the engine asks of whatever computes its batches. It knows no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quire_engine.scheduling.batch import Batch, SpanResult


class OutOfMemory(Exception):
    """The device has no memory for a batch; it may have for a smaller one."""


class Pending(Protocol):
    """A batch on its way."""

    def wait(self) -> list[SpanResult]:
        """One result for each span of the batch, in order; returns when they are there. Raises as Runner.run does."""
        ...


class Runner(Protocol):
    """Model, KV cache, attention and sampler behind two verbs."""

    def run(self, batch: Batch) -> Pending:
        """Start computing a batch, which is not empty.

        OutOfMemory where the device has too little for it, DeviceFault where it will compute nothing any more. Whatever
        else is raised may be one span's fault; then the same batch, or a part of it, can be computed anew.
        """
        ...

    def mend(self, blocks: Sequence[int]) -> list[int]:
        """Write zeros over those of these blocks that hold what is no finite number; which those were."""
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
