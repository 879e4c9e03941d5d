"""Deadlines end requests wherever they stand, and nobody else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.invariants import check_invariants
from tests.support.requests import beam_request, submission
from tests.support.scripted import ScriptedRunner, scripted_decisions

from quire_engine.engine import Engine
from quire_engine.scheduling.deadlines import Deadlines
from quire_engine.sequence import Emission, Submission, Terms


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed_engine(**decisions: Any) -> tuple[Engine, Clock]:
    settled, clock = scripted_decisions(**decisions), Clock()
    return Engine(ScriptedRunner(settled.block_size), settled, clock=clock), clock


def ends(emissions: list[Emission]) -> dict[tuple[int, int], str | None]:
    return {(each.handle, each.index): each.finish_reason for each in emissions if each.finish_reason}


def ask(handle: int, deadline: float | None, **fields: Any) -> Submission:
    return submission(handle, [1 + handle, 2, 3], terms=Terms(deadline=deadline), **{"max_tokens": 50} | fields)


def test_a_running_request_ends_in_the_step_after_its_deadline() -> None:
    engine, clock = timed_engine()
    engine.add(ask(0, 5.0))
    engine.add(ask(1, None))
    assert ends(engine.step()) == {}
    clock.now = 4.999
    assert ends(engine.step()) == {}
    clock.now = 5.0
    assert ends(engine.step()) == {(0, 0): "timeout"}
    check_invariants(engine.scheduler)
    assert engine.stats().running == 1
    assert engine.stats().finished == {"timeout": 1}


def test_a_waiting_request_ends_without_a_token() -> None:
    engine, clock = timed_engine(max_num_seqs=1)
    engine.add(ask(0, None))
    engine.add(ask(1, 5.0))
    engine.step()
    clock.now = 6.0
    told = [each for each in engine.step() if each.handle == 1]
    assert [(each.token_ids, each.finish_reason) for each in told] == [((), "timeout")]
    check_invariants(engine.scheduler)


def test_each_choice_is_told() -> None:
    engine, clock = timed_engine(max_num_seqs=2)
    engine.add(ask(0, 5.0, n=3, temperature=1))
    engine.step()
    clock.now = 5.0
    assert ends(engine.step()) == {(0, index): "timeout" for index in range(3)}
    assert not engine.has_work


def test_beams_end_together() -> None:
    engine, clock = timed_engine()
    engine.add(Submission(0, beam_request([1, 2, 3], n=3, max_tokens=20), terms=Terms(deadline=5.0)))
    for _ in range(3):
        engine.step()
    clock.now = 5.0
    assert ends(engine.step()) == {(0, index): "timeout" for index in range(3)}
    check_invariants(engine.scheduler)
    assert not engine.has_work


def test_a_step_that_is_on_its_way_is_no_hindrance() -> None:
    engine, clock = timed_engine(async_scheduling=True)
    engine.add(ask(0, 5.0))
    engine.add(ask(1, None))
    for _ in range(3):
        engine.step()
    clock.now = 5.0
    assert ends(engine.step()) == {(0, 0): "timeout"}
    told = [each for _ in range(60) for each in engine.step()]
    assert ends(told) == {(1, 0): "length"}
    assert all(each.handle == 1 for each in told)


def test_who_has_ended_in_time_is_not_late_afterwards() -> None:
    engine, clock = timed_engine()
    engine.add(ask(0, 5.0, max_tokens=1))
    assert ends(engine.step()) == {(0, 0): "length"}
    clock.now = 6.0
    assert engine.step() == []
    assert len(engine.scheduler.deadlines) == 0


def test_an_engine_says_when_a_request_first_ran_and_how_often_it_gave_way() -> None:
    engine, clock = timed_engine(scheduling_policy="priority", max_num_seqs=1)
    engine.add(submission(0, [1, 2], priority=1))
    clock.now = 3.0
    engine.step()
    assert [(each.handle, each.scheduled, each.preemptions) for each in engine.progress] == [(0, 3.0, 0)]
    engine.add(submission(1, [1, 2], max_tokens=1))
    clock.now = 4.0
    engine.step()
    assert sorted((each.handle, each.scheduled, each.preemptions) for each in engine.progress if each) == [
        (0, None, 1),
        (1, 4.0, 0),
    ]
    engine.step()
    assert engine.progress == []


@given(
    st.lists(st.tuples(st.floats(0, 10), st.booleans())),
    st.floats(0, 10),
)
def test_those_whose_time_is_up_are_those_not_after_now(requests: list[tuple[float, bool]], now: float) -> None:
    deadlines = Deadlines()
    for handle, (when, _) in enumerate(requests):
        deadlines.add(handle, when)
    for handle, (_, ends_before) in enumerate(requests):
        if ends_before:
            deadlines.discard(handle)
            deadlines.discard(handle)
    expected = [handle for handle, (when, ends_before) in enumerate(requests) if when <= now and not ends_before]
    assert sorted(deadlines.passed(now)) == expected
