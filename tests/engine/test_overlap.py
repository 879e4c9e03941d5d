"""The overlapped loop answers as the other one does: who stops, is aborted or comes in meanwhile changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.invariants import check_invariants
from tests.support.requests import submission
from tests.support.schedules import finish
from tests.support.scripted import VOCABULARY, Script, ScriptedRunner, checksum, count_up, scripted_decisions

from quire_engine.engine import Engine
from quire_engine.scheduling.scheduler import Scheduler
from quire_engine.sequence import Sequence, Terms


def engine_of(
    *, overlapped: bool, script: Script = checksum, failing_steps: Collection[int] = (), **changes: Any
) -> Engine:
    decisions = scripted_decisions(async_scheduling=overlapped, **changes)
    return Engine(ScriptedRunner(decisions.block_size, script, failing_steps), decisions)


def check_idle(scheduler: Scheduler) -> None:
    check_invariants(scheduler)
    assert not scheduler.has_work
    assert scheduler.pool.num_free == len(scheduler.pool.blocks)


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20),
        st.integers(1, 12),  # most tokens
        st.lists(st.integers(0, VOCABULARY - 1), max_size=30),  # stop tokens
        st.integers(1, 3),  # choices
        st.integers(0, 12),  # steps before it comes
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS,
    blocks=st.integers(20, 60),
    tokens=st.integers(3, 40),
    seats=st.integers(1, 6),
    policy=st.sampled_from(["fcfs", "fair"]),
)
def test_any_workload_is_answered_alike(requests: list[Any], blocks: int, tokens: int, seats: int, policy: str) -> None:
    answers = []
    scarce = {"num_blocks": blocks, "max_num_batched_tokens": tokens, "max_num_seqs": seats}
    for overlapped in (False, True):
        engine = engine_of(overlapped=overlapped, scheduling_policy=policy, **scarce)
        found: dict[tuple[int, int], list[int]] = {}
        ended = {}
        for step in range(2000):
            for number, (prompt, most, stops, n, arrival) in enumerate(requests):
                if arrival == step:
                    terms = Terms("ab"[number % 2])
                    fields = {"max_tokens": most, "stop_token_ids": stops, "n": n, "seed": number}
                    engine.add(submission(number, prompt, terms=terms, **fields))
            for emission in engine.step():
                place = emission.handle, emission.index
                found.setdefault(place, []).extend(emission.token_ids)
                ended[place] = (emission.finish_reason, emission.stop_reason)
            check_invariants(engine.scheduler)
            if step > 12 and not engine.has_work:
                break
        check_idle(engine.scheduler)
        answers.append((found, ended))
    assert answers[0] == answers[1]


def test_steps_are_launched_before_the_ones_before_them_are_committed() -> None:
    engine = engine_of(overlapped=True, script=count_up)
    engine.add(submission(0, [1, 2, 3], max_tokens=5))
    launched = []
    while engine.has_work:
        engine.step()
        launched.append(engine.runner.steps)
    assert launched == [2, 3, 4, 5, 5]


def test_who_stops_by_a_token_is_computed_once_more_in_vain_and_says_no_more() -> None:
    engine = engine_of(overlapped=True, script=count_up)
    engine.add(submission(0, [1], max_tokens=50, stop_token_ids=[4]))
    engine.add(submission(1, [20], max_tokens=6))
    answers = finish(engine)
    assert answers[0, 0].tokens == [2, 3, 4]
    assert answers[1, 0].tokens == [21, 22, 23, 24, 25, 26]
    assert (0, 0, 3, 1) in engine.runner.batches[3]  # the token that came after the last one
    check_idle(engine.scheduler)


@pytest.mark.parametrize("steps", range(1, 6))
def test_an_abort_between_two_steps_ends_the_sequence_at_once(steps: int) -> None:
    engine = engine_of(overlapped=True, script=count_up)
    for handle in (0, 1):
        engine.add(submission(handle, [10 * (handle + 1)], max_tokens=8))
    heard = []
    for _ in range(steps):
        heard += engine.step()
    engine.abort(0)
    heard += [emission for _ in range(20) for emission in engine.step()]
    assert [token for e in heard if e.handle == 1 for token in e.token_ids] == [*range(21, 29)]
    assert sum(len(e.token_ids) for e in heard if e.handle == 0) == steps
    check_idle(engine.scheduler)


def test_all_aborted_leaves_nothing_behind_and_the_next_request_is_served() -> None:
    engine = engine_of(overlapped=True, script=count_up)
    engine.add(submission(0, [10], max_tokens=8))
    engine.step()
    engine.abort(0)
    assert not engine.has_work
    assert engine.step() == []
    engine.add(submission(1, [30], max_tokens=2))
    assert finish(engine)[1, 0].tokens == [31, 32]
    check_idle(engine.scheduler)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_step_that_fails_once_is_computed_in_parts_and_nobody_notices(failing: int) -> None:
    engine = engine_of(overlapped=True, script=count_up, failing_steps=[failing])
    for handle in range(3):
        engine.add(submission(handle, [10 * (handle + 1)], max_tokens=5 + handle))
    answers = finish(engine)
    for handle in range(3):
        first = 10 * (handle + 1) + 1
        assert answers[handle, 0].tokens == [*range(first, first + 5 + handle)]
    check_idle(engine.scheduler)


def test_who_ends_before_a_step_launched_ahead_and_would_fail_in_it_has_ended_well() -> None:
    def fail(sequence: Sequence, context: Seq[int]) -> int:
        if context[-1] == 3:
            raise RuntimeError("a token that was told to fail")
        return count_up(sequence, context)

    engine = engine_of(overlapped=True, script=fail)
    engine.add(submission(0, [1], max_tokens=50, stop_token_ids=[3]))  # ends by the second step, is in the third
    engine.add(submission(1, [20], max_tokens=6))
    answers = finish(engine)
    assert (answers[0, 0].tokens, answers[0, 0].finish_reason) == ([2, 3], "stop")
    assert answers[1, 0].tokens == [*range(21, 27)]
    check_idle(engine.scheduler)


def test_who_makes_steps_fail_ends_alone_with_what_it_had() -> None:
    def fail(sequence: Sequence, context: Seq[int]) -> int:
        if context[-1] == 33:
            raise RuntimeError("a token that was told to fail")
        return count_up(sequence, context)

    engine = engine_of(overlapped=True, script=fail)
    for handle in range(5):
        engine.add(submission(handle, [10 * (handle + 1)], max_tokens=6))
    answers = finish(engine)
    assert (answers[2, 0].tokens, answers[2, 0].finish_reason) == ([31, 32, 33], "error")
    for handle in (0, 1, 3, 4):
        assert answers[handle, 0].tokens == [*range(10 * handle + 11, 10 * handle + 17)]
    check_idle(engine.scheduler)


def test_nothing_is_launched_ahead_of_a_sequence_whose_processors_want_to_see_its_tokens() -> None:
    engine = engine_of(overlapped=True, script=count_up)
    engine.add(submission(0, [1], max_tokens=3))
    (sequence,) = engine.scheduler.requests[0].values()
    sequence.processors = object()  # type: ignore[assignment]
    launched = []
    while engine.has_work:
        engine.step()
        launched.append(engine.runner.steps)
    assert launched == [1, 2, 3]
