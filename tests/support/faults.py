"""Runners that fail: for whom, when and where is said by a rule. What they wrap computes all the rest."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from tests.support.scripted import scripted_engine

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.errors import DeviceFault
from quire_engine.runner.base import Pending, Runner
from quire_engine.scheduling.batch import Batch, SpanResult

Rule = Callable[[Batch], Exception | None]
"""Why a batch fails; None if it does not."""

Where = Literal["before", "after", "waiting"]
"""Before anything is computed; when all is; or only when the results are waited for, as on a device."""
PLACES: tuple[Where, ...] = ("before", "after", "waiting")


@dataclass(frozen=True)
class Lost:
    """A batch that was computed, and whose results are not to be had."""

    pending: Pending
    error: Exception

    def wait(self) -> list[SpanResult]:
        self.pending.wait()
        raise self.error


@dataclass
class FaultyRunner:
    """Another runner, failing by a rule."""

    runner: Runner
    rule: Rule
    where: Where = "before"
    passes: list[list[int]] = field(default_factory=list)
    """The handles in each batch that was to be computed."""

    def run(self, batch: Batch) -> Pending:
        self.passes.append([span.sequence.handle for span in batch.spans])
        error = self.rule(batch)
        if error is not None and self.where == "before":
            raise error
        pending = self.runner.run(batch)
        if error is not None and self.where == "after":
            pending.wait()
            raise error
        return pending if error is None else Lost(pending, error)

    def mend(self, blocks: Seq[int]) -> list[int]:
        return self.runner.mend(blocks)

    def warm_up(self) -> None:
        self.runner.warm_up()

    def improve(self) -> bool:
        return self.runner.improve()

    def close(self) -> None:
        self.runner.close()


def nobody(batch: Batch) -> None:
    """Nothing fails."""


def whoever_has(handle: int, output: int, index: int | None = None) -> Rule:
    """One request, or one choice of it, fails for good as soon as it has so many tokens."""

    def rule(batch: Batch) -> Exception | None:
        for span in batch.spans:
            sequence = span.sequence
            is_meant = sequence.handle == handle and index in (None, sequence.index)
            if is_meant and span.stop >= sequence.prompt_length + output:
                return RuntimeError(f"request {handle} was told to fail")
        return None

    return rule


def any_of(*rules: Rule) -> Rule:
    """The first of several that applies."""
    return lambda batch: next((error for rule in rules if (error := rule(batch)) is not None), None)


def first(count: int, rule: Rule) -> Rule:
    """A rule that applies so many times, and then no more."""
    left = [count]

    def limited(batch: Batch) -> Exception | None:
        error = rule(batch) if left[0] else None
        left[0] -= error is not None
        return error

    return limited


def load_fatal(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine whose device is lost by whatever has a 66 in it, as soon as that has two tokens."""

    def rule(batch: Batch) -> Exception | None:
        lost = any(66 in s.sequence.tokens[:1] and s.sequence.output_length == 2 for s in batch.spans)
        return DeviceFault("the device is gone") if lost else None

    engine = scripted_engine(seed=config.seed)
    return Engine(FaultyRunner(engine.runner, rule), engine.decisions)


def load_doomed(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine whose device is lost by whatever gets as far as two tokens, in any company and alone."""

    def rule(batch: Batch) -> Exception | None:
        lost = any(span.sequence.output_length == 2 for span in batch.spans)
        return DeviceFault("the device is gone") if lost else None

    engine = scripted_engine(seed=config.seed)
    return Engine(FaultyRunner(engine.runner, rule), engine.decisions)


def load_hanging(config: EngineConfig, *, progress: bool = False) -> Engine:
    """An engine that never comes back from a step in which what begins with 66 has two tokens."""

    def rule(batch: Batch) -> Exception | None:
        if any(66 in s.sequence.tokens[:1] and s.sequence.output_length == 2 for s in batch.spans):
            Event().wait()
        return None

    engine = scripted_engine(seed=config.seed)
    return Engine(FaultyRunner(engine.runner, rule), engine.decisions)
