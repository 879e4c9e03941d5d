"""Sequences held to a form: who does not know yet what may come next sits out, and holds up nobody."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.invariants import check_invariants
from tests.support.requests import submission
from tests.support.schedules import finish
from tests.support.scripted import VOCABULARY, ScriptedRunner, checksum, count_up, scripted_decisions

from quire_engine.engine import Engine
from quire_engine.sequence import Submission


@dataclass
class Halting:
    """A guide that follows a plan: how often it is asked in vain before each token, and what it adds to tokens."""

    waits: list[int] = field(default_factory=list)
    adds: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By token: those that must come after it."""
    last: int | None = None
    """The token after which nothing may follow."""
    mask: Any = None
    failure: Exception | None = None
    param: str | None = None
    is_over: bool = False
    is_cut: bool = False
    ends_before: int | None = None
    """A token for which there is no room, as far as it opens something."""
    refused: int | None = None
    """A token that is drawn in vain the first time."""
    begun: int = 0
    asked: int = 0
    taken: int = 0

    def begin(self) -> None:
        self.begun += 1

    @property
    def is_late(self) -> bool:
        assert self.begun
        self.asked += 1
        wanted = self.waits[self.taken] if self.taken < len(self.waits) else 0
        return self.asked <= wanted

    def wait(self, seconds: float) -> bool:
        return not self.is_late

    def take(self, token: int, room: int) -> Seq[int]:
        assert room > 0
        if self.is_late:
            return ()
        if token == self.refused:
            self.refused = None
            return ()
        if token == self.ends_before:
            self.is_over = self.is_cut = True
            return ()
        self.asked, self.taken = 0, self.taken + 1
        tokens = (token, *self.adds.get(token, ()))
        self.is_over = self.last in tokens
        return tokens


def engine_of(script: Any = count_up, **changes: Any) -> Engine:
    decisions = scripted_decisions(**changes)
    return Engine(ScriptedRunner(decisions.block_size, script), decisions)


def add(engine: Engine, asked: Submission, *guides: Halting | None) -> None:
    """Add a request, whose choices have these guides."""
    engine.add(asked)
    for sequence, guide in zip(engine.scheduler.requests[asked.handle].values(), guides, strict=True):
        sequence.guide = guide


def check_idle(engine: Engine) -> None:
    check_invariants(engine.scheduler)
    assert not engine.has_work
    assert engine.scheduler.pool.num_free == len(engine.scheduler.pool.blocks)


def test_a_prompt_is_computed_up_to_its_last_token_until_its_guide_is_ready() -> None:
    engine = engine_of()
    add(engine, submission(0, [1, 2, 3, 4, 5], max_tokens=2), Halting(waits=[6]))
    assert finish(engine)[0, 0].tokens == [6, 7]
    assert engine.runner.batches == [[(0, 0, 0, 4)], [(0, 0, 4, 1)], [(0, 0, 5, 1)]]
    check_idle(engine)


def test_who_sits_out_holds_up_nobody() -> None:
    engine = engine_of(max_num_seqs=2)
    add(engine, submission(0, [1, 2, 3], max_tokens=3), Halting(waits=[0, 40]))
    add(engine, submission(1, [20], max_tokens=6), None)
    add(engine, submission(2, [40], max_tokens=3), None)
    ended = []
    while engine.has_work:
        ended += [emission.handle for emission in engine.step() if emission.finish_reason]
        check_invariants(engine.scheduler)
    assert ended == [1, 2, 0]
    check_idle(engine)


def test_nobody_gives_way_to_the_line_for_sitting_out() -> None:
    engine = engine_of(max_num_seqs=1)
    add(engine, submission(0, [1, 2, 3], max_tokens=3), Halting(waits=[5, 20]))
    add(engine, submission(1, [20], max_tokens=2), None)
    assert finish(engine)[1, 0].tokens == [21, 22]
    assert engine.stats().preemptions == 0


def test_tokens_that_must_come_are_emitted_together_and_computed_as_one_span() -> None:
    engine = engine_of()
    add(engine, submission(0, [1], max_tokens=8), Halting(adds={3: (50, 51, 52)}))
    emissions = [emission.token_ids for _ in range(5) for emission in engine.step()]
    assert emissions == [(2,), (3, 50, 51, 52), (53,), (54,), (55,)]
    assert engine.runner.batches[2] == [(0, 0, 2, 4)]
    assert engine.stats().generation_tokens == 8
    check_idle(engine)


@pytest.mark.parametrize(
    ("fields", "tokens", "reason", "stop_reason"),
    [
        ({"max_tokens": 3}, [2, 3, 50], "length", None),
        ({"max_tokens": 9, "stop_token_ids": [51]}, [2, 3, 50, 51], "stop", 51),
        ({"max_tokens": 9, "ignore_eos": False}, [2, 3, 50, 51, 0], "stop", None),
    ],
)
def test_tokens_that_must_come_end_the_answer_as_any_do(
    fields: dict[str, Any], tokens: list[int], reason: str, stop_reason: int | None
) -> None:
    engine = engine_of()
    add(engine, submission(0, [1], **fields), Halting(adds={3: (50, 51, 0, 52)}, last=52))
    heard = [emission for _ in range(4) for emission in engine.step()]
    assert [token for emission in heard for token in emission.token_ids] == tokens
    assert (heard[-1].finish_reason, heard[-1].stop_reason) == (reason, stop_reason)
    check_idle(engine)


@pytest.mark.parametrize("most", [4, 10])
def test_an_answer_that_is_over_stops_also_where_its_length_is_used_up(most: int) -> None:
    engine = engine_of()
    add(engine, submission(0, [1], max_tokens=most), Halting(last=5))
    answer = finish(engine)[0, 0]
    assert (answer.tokens, answer.finish_reason) == ([2, 3, 4, 5], "stop")
    check_idle(engine)


def test_an_answer_that_has_no_room_for_what_it_would_go_on_with_was_cut() -> None:
    engine = engine_of()
    add(engine, submission(0, [1], max_tokens=9), Halting(ends_before=4))
    answer = finish(engine)[0, 0]
    assert (answer.tokens, answer.finish_reason) == ([2, 3], "length")
    check_idle(engine)


def test_a_guide_that_becomes_ready_within_a_step_costs_nobody_a_place() -> None:
    engine = engine_of(max_num_seqs=1)
    add(engine, submission(0, [1], max_tokens=3), Halting(waits=[0, 1]))
    engine.step()
    engine.add(submission(1, [7], max_tokens=1))
    finish(engine)
    assert engine.stats().preemptions == 0
    check_idle(engine)


def test_what_may_not_stand_is_drawn_again_and_nothing_is_emitted_meanwhile() -> None:
    engine = engine_of()
    add(engine, submission(0, [1, 2, 3, 4, 5, 6], max_tokens=3), Halting(refused=7))
    assert engine.step() == []
    assert finish(engine)[0, 0].tokens == [7, 8, 9]
    assert engine.runner.batches[:2] == [[(0, 0, 0, 6)], [(0, 0, 5, 1)]]
    check_idle(engine)


def test_nothing_is_launched_ahead_of_a_sequence_that_is_held_to_a_form() -> None:
    engine = engine_of(async_scheduling=True)
    add(engine, submission(0, [1], max_tokens=3), Halting())
    launched = []
    while engine.has_work:
        engine.step()
        launched.append(engine.runner.steps)
    assert launched == [1, 2, 3]


WAITS = st.lists(st.integers(0, 7), max_size=10)
REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20),
        st.integers(1, 12),  # most tokens
        st.lists(WAITS, min_size=1, max_size=3),  # choices
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
    overlapped=st.booleans(),
)
def test_however_long_guides_take_the_answers_are_the_same(
    requests: list[Any], blocks: int, tokens: int, seats: int, overlapped: bool
) -> None:
    limits = {"num_blocks": blocks, "max_num_batched_tokens": tokens, "max_num_seqs": seats}
    answers = []
    for waits in (False, True):
        engine = engine_of(checksum, async_scheduling=overlapped, **limits)
        found: dict[tuple[int, int], list[int]] = {}
        for step in range(4000):
            for number, (prompt, most, plans, arrival) in enumerate(requests):
                if arrival == step:
                    asked = submission(number, prompt, max_tokens=most, n=len(plans), seed=number)
                    add(engine, asked, *(Halting(waits=plan if waits else [], adds={5: (6, 7)}) for plan in plans))
            for emission in engine.step():
                found.setdefault((emission.handle, emission.index), []).extend(emission.token_ids)
            check_invariants(engine.scheduler)
            if step > 12 and not engine.has_work:
                break
        check_idle(engine)
        answers.append(found)
    assert answers[0] == answers[1]
