"""What is counted of an engine's requests goes on over restarts, and takes no more memory the longer it is counted."""

from __future__ import annotations

from typing import Any

from tests.engine.test_async_engine import collect, engine_in_a_thread
from tests.support.loop import run
from tests.support.requests import generate_request

from quire_engine.async_engine import RequestOutputs
from quire_engine.link.frames import Report
from quire_engine.link.journal import Journal
from quire_engine.sequence import Emission, Terms
from quire_engine.stats import Stats
from quire_server.ledger import MOST_LEFT, MOST_TENANTS, OTHERS, EngineLedger


def counted(scenario: Any, load: str = "load_counting") -> EngineLedger:
    """The ledger of an engine, after this was done with it."""

    async def observe() -> EngineLedger:
        async with engine_in_a_thread(load) as engine:
            engine.observer = ledger = EngineLedger(engine)
            await scenario(engine, ledger)
            return ledger

    return run(observe())


def test_counters_go_on_where_another_process_begins_to_count() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        journal = Journal(seed=0, seats=8)
        first = Stats(steps=7, generation_tokens=30, computed_tokens=50, running=2)
        ledger.stepped(journal.hear(Report([], first)).stats)
        ledger.stepped(journal.broken_off().stats)
        ledger.stepped(
            journal.hear(Report([], Stats(running=1, steps=1, generation_tokens=3, computed_tokens=5))).stats
        )
        ledger.stepped(
            journal.hear(Report([], Stats(running=1, steps=2, generation_tokens=4, computed_tokens=6))).stats
        )

    ledger = counted(scenario)
    assert (ledger.stats.steps, ledger.stats.generation_tokens, ledger.stats.running) == (9, 34, 1)
    assert (ledger.step_tokens.count, ledger.step_tokens.total) == (3, 56)


def test_tokens_are_counted_by_tenant() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        for tenant, length in (("alice", 3), ("bob", 2), ("alice", 4)):
            await collect(await engine.submit(generate_request([1, 2], max_tokens=length), Terms(tenant)))

    ledger = counted(scenario)
    assert ledger.generation_tokens == {"alice": 7, "bob": 2}
    assert ledger.prompt_tokens == {"alice": 4, "bob": 2}


def test_tenants_beyond_so_many_are_counted_together() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        ledger.prompt_tokens.update({f"key-{number}": 1 for number in range(MOST_TENANTS)})
        for tenant in ("one more", "key-3"):
            await collect(await engine.submit(generate_request([1, 2], max_tokens=1), Terms(tenant)))

    ledger = counted(scenario)
    assert (ledger.prompt_tokens[OTHERS], ledger.prompt_tokens["key-3"]) == (2, 3)
    assert "one more" not in ledger.prompt_tokens


def test_a_deadline_that_passes_is_counted_by_how_far_the_request_was() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        outputs = await engine.submit(generate_request([1, 2], max_tokens=5))
        outputs.deliver(Emission(outputs.handle, 0, (), finish_reason="timeout"), 0.0)
        begun = await engine.submit(generate_request([1, 2], max_tokens=5))
        begun.deliver(Emission(begun.handle, 0, (7,), finish_reason="timeout"), 0.0)

    ledger = counted(scenario)
    assert ledger.deadlines_missed == {"waiting": 1, "running": 1}
    assert ledger.finished == {"timeout": 2}


def test_tokens_after_a_disconnect_are_counted_and_those_after_an_end_are_not() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        ended: RequestOutputs = await engine.submit(generate_request([1], max_tokens=1))
        await collect(ended)
        left = await engine.submit(generate_request([1], max_tokens=100))
        await left.aclose()
        before = ledger.tokens_after_disconnect
        ledger.unclaimed(Emission(ended.handle, 0, (1, 2)))
        ledger.unclaimed(Emission(left.handle, 0, (1, 2, 3)))
        assert ledger.tokens_after_disconnect - before == 3

    counted(scenario, "load_endless")


def test_only_so_many_who_left_are_remembered() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        handles = []
        for _ in range(MOST_LEFT + 1):
            outputs = await engine.submit(generate_request([1], max_tokens=5))
            handles.append(outputs.handle)
            await outputs.aclose()
        before = ledger.tokens_after_disconnect
        for handle in (handles[0], handles[-1]):
            ledger.unclaimed(Emission(handle, 0, (1,)))
        assert ledger.tokens_after_disconnect - before == 1

    counted(scenario, "load_endless")


def test_what_was_left_unfinished_counts_as_given_up_and_what_failed_as_an_error() -> None:
    async def scenario(engine: Any, ledger: EngineLedger) -> None:
        left = await engine.submit(generate_request([1], max_tokens=100, n=2))
        await left.aclose()
        failed = await engine.submit(generate_request([1], max_tokens=100))
        failed.fail(RuntimeError("it cannot be"))

    assert counted(scenario, "load_endless").finished == {"abort": 2, "error": 1}
