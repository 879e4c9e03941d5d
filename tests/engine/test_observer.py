"""Whoever observes an AsyncEngine is told of every request: when it came, what it gave, and how it ended, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.engine.test_async_engine import collect, engine_in_a_thread, until
from tests.support.loop import run
from tests.support.requests import generate_request

from quire_engine.async_engine import RequestOutputs
from quire_engine.errors import EngineStopped, Overloaded
from quire_engine.observer import Nobody
from quire_engine.sequence import Emission
from quire_engine.stats import Stats
from quire_engine.text.output import Output


class Diary:
    """An Observer that writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.gaps: list[float | None] = []
        self.steps: list[Stats] = []
        self.strays = 0

    def submitted(self, outputs: RequestOutputs) -> None:
        self.entries.append("submitted")

    def refused(self, error: Overloaded) -> None:
        self.entries.append(f"refused by {error.limit}")

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        self.entries.append("delivered")
        self.gaps.append(gap)

    def ended(self, outputs: RequestOutputs) -> None:
        told = type(outputs.error).__name__ if outputs.error else list(outputs.finish_reasons.values())
        assert outputs.timing.finished is not None
        self.entries.append(f"ended {told}")

    def stepped(self, stats: Stats) -> None:
        self.steps.append(stats)

    def unclaimed(self, emission: Emission) -> None:
        self.strays += len(emission.token_ids)


def test_an_answer_is_told_from_its_beginning_to_its_end() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_counting") as engine:
            engine.observer = diary = Diary()
            await collect(await engine.submit(generate_request([1, 2, 3], max_tokens=3)))
            return diary

    diary = run(scenario())
    assert diary.entries == ["submitted", "delivered", "delivered", "delivered", "ended ['length']"]


def test_the_gap_is_the_time_since_the_tokens_before() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_counting") as engine:
            engine.observer = diary = Diary()
            await collect(await engine.submit(generate_request([1], max_tokens=3)))
            return diary

    first, *others = run(scenario()).gaps
    assert first is None
    assert all(gap is not None and gap > 0 for gap in others)


def test_choices_that_have_a_token_from_one_step_have_no_gap_between_them() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_counting") as engine:
            engine.observer = diary = Diary()
            await collect(await engine.submit(generate_request([1], max_tokens=3, n=2)))
            return diary

    assert 0.0 in run(scenario()).gaps


def test_every_step_is_told_with_how_the_engine_stands() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_counting") as engine:
            engine.observer = diary = Diary()
            await collect(await engine.submit(generate_request([1, 2, 3], max_tokens=4)))
            return diary

    assert [stats.generation_tokens for stats in run(scenario()).steps if stats.steps] == [1, 2, 3, 4]


def test_a_request_that_nobody_waits_for_ends_unfinished() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_endless") as engine:
            engine.observer = diary = Diary()
            outputs = await engine.submit(generate_request([1], max_tokens=100_000))
            await anext(outputs)
            await outputs.aclose()
            await until(engine, lambda stats: stats.finished.get("abort") == 1)
            return diary

    assert run(scenario()).entries[-1] == "ended []"


def test_a_request_that_fails_ends_with_its_error() -> None:
    async def scenario() -> Diary:
        diary = Diary()
        async with engine_in_a_thread("load_endless") as engine:
            engine.observer = diary
            outputs = await engine.submit(generate_request([1], max_tokens=100_000))
        with pytest.raises(EngineStopped):
            await collect(outputs)
        return diary

    assert run(scenario()).entries[-1] == "ended EngineStopped"


def test_what_is_generated_for_a_request_that_is_over_is_told_apart() -> None:
    async def scenario() -> tuple[Diary, int]:
        async with engine_in_a_thread("load_endless") as engine:
            engine.observer = diary = Diary()
            outputs: Any = await engine.submit(generate_request([1], max_tokens=100_000))
            await anext(outputs)
            engine.forget(outputs.handle)  # as if it had been closed, and the engine had not heard of it yet
            told = outputs.timing.generation_tokens
            stats = await until(engine, lambda stats: stats.generation_tokens >= told + 5)
            return diary, stats.generation_tokens - told

    diary, generated = run(scenario())
    assert diary.strays == generated


def test_a_request_that_finds_the_line_full_is_told_with_the_limit() -> None:
    async def scenario() -> Diary:
        async with engine_in_a_thread("load_narrow") as engine:
            engine.observer = diary = Diary()
            crowd = [engine.submit(generate_request([1], max_tokens=100_000)) for _ in range(9)]
            await asyncio.gather(*crowd, return_exceptions=True)
            return diary

    told = run(scenario()).entries
    assert told[told.index("refused by max_num_queued_reqs") - 1] == "submitted"


class Clumsy(Nobody):
    """Raises whatever it is told."""

    def submitted(self, outputs: RequestOutputs) -> None:
        raise RuntimeError("submitted")

    def refused(self, error: Overloaded) -> None:
        raise RuntimeError("refused")

    def delivered(self, outputs: RequestOutputs, output: Output, gap: float | None) -> None:
        raise RuntimeError("delivered")

    def ended(self, outputs: RequestOutputs) -> None:
        raise RuntimeError("ended")

    def stepped(self, stats: Stats) -> None:
        raise RuntimeError("stepped")


def test_what_an_observer_raises_is_logged_once_and_nobody_else_notices(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with engine_in_a_thread() as engine:
            engine.observer = Clumsy()
            outputs = await collect(await engine.submit(generate_request([1], max_tokens=5)))
            assert outputs[-1].finish_reason == "length"
            assert engine.is_healthy

    run(scenario())
    assert caplog.text.count("An observer of the engine failed") == 1
