"""The line holds so many and no more, and nobody joins it whose deadline is lost; only counts and clocks are needed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.requests import generate_request
from tests.support.scripted import scripted_decisions

from quire_engine.errors import DeadlineUnreachable, Overloaded
from quire_engine.gate import LEAST_CAUTION, LONGEST_WAIT, Gate
from quire_engine.sequence import FinishReason, Terms
from quire_engine.stats import Stats

MOST = 256
"""Tokens of a step."""


def gate(**decisions: Any) -> Gate:
    return Gate(scripted_decisions(**{"max_num_batched_tokens": MOST, "max_num_seqs": 2} | decisions))


def full(**decisions: Any) -> Gate:
    """A gate before an engine whose seats are taken."""
    line = gate(**decisions)
    for handle in (-1, -2):
        join(line, handle, tenant="noisy")
        line.began(handle)
    return line


def join(gate: Gate, handle: int, tokens: int = 1, tenant: str = "", now: float = 0.0, **terms: float) -> None:
    gate.join(handle, generate_request([1] * tokens, max_tokens=11), Terms(tenant, **terms), now)


def refused(gate: Gate, handle: int, now: float = 0.0) -> float:
    """Seconds in which somebody is told to come back."""
    with pytest.raises(Overloaded) as refusal:
        join(gate, handle, now=now)
    return refusal.value.retry_after


def busy(gate: Gate, *, waiting: int = 0, ended: int = 0) -> None:
    """Have the gate see an engine with two seats, both taken: a step takes 10 ms, and 1 ms for each token in it.

    An answer has eleven tokens; `ended` of them end in a second.
    """
    gate.forecast.answered(11 * ended, ended)
    step, tokens = 0, 0
    seconds = 0.0
    for step in range(1, 201):
        rows = 2 if step % 2 else 200
        tokens += rows
        seconds += 0.010 + 0.001 * rows
        gate.observe(
            Stats(
                running=2,
                waiting=waiting,
                steps=step,
                busy_seconds=seconds,
                computed_tokens=tokens,
                generation_tokens=11 * int(ended * seconds),
            )
        )


# --- room


def test_as_many_join_as_the_line_holds() -> None:
    line = full(max_num_queued_reqs=2)
    join(line, 0)
    join(line, 1)
    with pytest.raises(Overloaded, match=r"2 requests are waiting, and the line holds 2 \(max_num_queued_reqs\)"):
        join(line, 2)


def test_who_finds_an_empty_seat_does_not_count() -> None:
    line = gate(max_num_queued_reqs=0)
    join(line, 0)
    join(line, 1)
    with pytest.raises(Overloaded, match="holds 0"):
        join(line, 2)


def test_who_runs_or_has_ended_waits_no_more() -> None:
    line = full(max_num_queued_reqs=2)
    join(line, 0)
    join(line, 1)
    line.began(0)
    line.ended(1, 0.0)
    assert line.waiting == 0
    join(line, 2)
    join(line, 3)
    assert line.waiting == 2


def test_prompts_in_line_have_so_many_tokens_together() -> None:
    line = full(max_num_queued_tokens=10)
    join(line, 0, tokens=6)
    with pytest.raises(Overloaded, match=r"have 6 tokens, this one has 5, and the line holds 10"):
        join(line, 1, tokens=5)
    join(line, 2, tokens=4)


def test_a_longer_prompt_waits_where_nobody_else_does() -> None:
    line = full(max_num_queued_tokens=10)
    join(line, 0, tokens=50)
    with pytest.raises(Overloaded):
        join(line, 1)


def test_each_who_is_refused_is_told_a_moment_of_its_own() -> None:
    line = full(max_num_queued_reqs=3)
    busy(line, waiting=1, ended=2)
    for handle in range(3):
        join(line, handle)
    told = [refused(line, handle, now=100.0) for handle in range(3, 11)]
    assert told == pytest.approx([1, 1, 1.5, 2, 2.5, 3, 1, 1], rel=0.1)  # two seats become free in a second


def test_nobody_is_told_to_stay_away_for_longer_than_clients_wait() -> None:
    line = full(max_num_queued_reqs=100)
    for handle in range(100):
        join(line, handle)
    told = [refused(line, handle) for handle in range(100, 2000)]
    assert max(told) == LONGEST_WAIT


def test_what_others_were_told_in_a_storm_is_forgotten_after_it() -> None:
    line = full(max_num_queued_reqs=1)
    busy(line, waiting=1, ended=2)
    join(line, 0)
    for handle in range(1, 2000):
        refused(line, handle, now=0.002 * handle)
    assert refused(line, 2000, now=10.0) == pytest.approx(1.0)


def test_who_has_no_place_in_a_full_line_gets_one_beside_other_tenants() -> None:
    line = full(max_num_queued_reqs=2, scheduling_policy="fair")
    join(line, 0, tenant="noisy")
    join(line, 1, tenant="noisy")
    join(line, 2, tenant="quiet")
    for tenant in ("noisy", "quiet"):
        with pytest.raises(Overloaded):
            join(line, 3, tenant=tenant)


@pytest.mark.parametrize("tenant", ["noisy", "quiet"])
def test_nobody_has_a_place_where_there_is_no_line(tenant: str) -> None:
    line = full(max_num_queued_reqs=0, scheduling_policy="fair")
    with pytest.raises(Overloaded, match="holds 0"):
        join(line, 0, tenant=tenant)


def test_a_tenant_without_a_share_cannot_be_served() -> None:
    with pytest.raises(ValueError, match=r"'free riders' is 0\.0; a share is above 0"):
        join(gate(), 0, tenant="free riders", weight=0.0)


# --- deadlines


def test_a_deadline_that_has_passed_is_told_at_once() -> None:
    with pytest.raises(DeadlineUnreachable, match=r"passed 2\.000 s before the request came"):
        join(gate(), 0, now=12.0, deadline=10.0)


def test_nobody_is_refused_for_what_is_not_known_yet() -> None:
    join(gate(), 0, deadline=1e-9)


def test_a_deadline_that_the_prompt_alone_takes_longer_than_is_refused() -> None:
    line = gate(max_num_seqs=8)
    busy(line, ended=2)
    join(line, 0, tokens=200, deadline=0.4)  # 0.21 s for the prompt, ten steps of 13 ms
    with pytest.raises(DeadlineUnreachable, match=r"with 1 requests in line\), and the deadline is in 0\.3 s"):
        join(line, 1, tokens=200, deadline=0.3)


def test_who_is_behind_others_is_refused_earlier() -> None:
    line = gate()
    busy(line, waiting=3, ended=2)
    for handle in range(3):
        join(line, handle)
    with pytest.raises(DeadlineUnreachable):
        join(line, 3, deadline=1.0)  # four have to end before, two in a second
    join(line, 4, deadline=6.0)


def test_with_fair_shares_others_line_counts_no_more_than_its_own() -> None:
    for policy, is_refused in (("fcfs", True), ("fair", False)):
        line = gate(scheduling_policy=policy)
        busy(line, waiting=3, ended=2)
        for handle in range(50):
            join(line, handle, tenant="noisy")
        try:
            join(line, 50, tenant="quiet", deadline=4.0)
        except DeadlineUnreachable:
            assert is_refused
        else:
            assert not is_refused


def test_with_priorities_only_those_before_count() -> None:
    line = gate(scheduling_policy="priority")
    busy(line, waiting=3, ended=2)
    for handle in range(50):
        join(line, handle)
    urgent = generate_request([1], max_tokens=11, priority=-1)
    line.join(50, urgent, Terms(deadline=4.0), 0.0)
    with pytest.raises(DeadlineUnreachable):
        join(line, 51, deadline=4.0)


def taught(answers: int, took: float, reason: FinishReason = "length") -> tuple[Gate, float]:
    """A gate beside which somebody runs all the time, after so many answers; and what was foretold of each."""
    line = gate(max_num_seqs=8)
    busy(line, ended=2)
    join(line, -1)
    line.began(-1)
    foretold = 0.0
    for handle in range(answers):  # one in a second
        join(line, handle, now=handle, deadline=handle + 0.5)
        foretold = foretold or line._waiting[handle].foretold
        line.ended(handle, handle + took, [reason], 11)
    return line, foretold


def test_answers_that_take_longer_than_foretold_make_cautious_and_others_bold() -> None:
    line, foretold = taught(100, took=0.45)
    assert line.caution.at(100) * foretold == pytest.approx(0.45, rel=0.1)
    for handle in range(100, 1500):
        join(line, handle, now=handle, deadline=handle + 0.5)
        line.ended(handle, handle + 0.01, ["stop"], 11)
    assert line.caution.at(1500) == LEAST_CAUTION


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_answers_that_were_broken_off_teach_nothing(reason: FinishReason) -> None:
    line, _ = taught(100, took=0.45, reason=reason)
    assert line.caution.at(100) == LEAST_CAUTION


def test_answers_that_end_by_their_deadline_make_cautious() -> None:
    line, _ = taught(20, took=0.5, reason="timeout")
    assert line.caution.at(20) > 1.5


def test_caution_fades_where_nobody_teaches_it() -> None:
    line, foretold = taught(100, took=0.45)
    with pytest.raises(DeadlineUnreachable):
        join(line, 100, now=101.0, deadline=101.0 + 1.3 * foretold)
    faded = line.caution.at(300.0)
    join(line, 100, now=300.0, deadline=300.0 + 1.3 * foretold)
    line.ended(100, 300.0 + foretold, ["length"], 11)
    assert line.caution.at(301.0) == pytest.approx(faded)  # one lesson does not bring back what was forgotten


def test_a_pause_of_the_engine_says_nothing_of_its_speed() -> None:
    line = gate(max_num_seqs=64)
    busy(line, ended=2)
    for handle in range(40):
        join(line, handle, deadline=0.4)
        line.began(handle)
    assert max(ticket.foretold for ticket in line._running.values()) > 0.1
    line.observe(replace(line.forecast.stats, running=0, waiting=40))  # it has ended, and all of them wait
    for handle in range(40):
        line.ended(handle, 30.0, ["timeout"], 5)
    assert line.caution.at(30.0) == LEAST_CAUTION


def test_nobody_is_refused_by_an_idle_engine_whatever_was_learned() -> None:
    line, foretold = taught(100, took=0.45)
    with pytest.raises(DeadlineUnreachable):
        join(line, 100, now=100.0, deadline=100.0 + foretold / 2)
    line.ended(-1, 100.0)
    join(line, 100, now=100.0, deadline=100.0 + foretold / 2)


def test_answers_that_run_on_do_not_make_others_seem_long() -> None:
    line, _ = taught(20, took=0.1)
    stats = line.forecast.stats
    for step in range(1, 3001):  # nobody ends for a minute
        more = {"steps": stats.steps + step, "busy_seconds": stats.busy_seconds + 0.02 * step}
        line.observe(replace(stats, **more, computed_tokens=stats.computed_tokens + step, generation_tokens=step))
    line.join(99, generate_request([1], max_tokens=None), Terms(deadline=101.0), 100.0)


def test_nothing_is_kept_of_those_who_left() -> None:
    line = gate()
    for handle in range(10):
        join(line, handle, tokens=5, tenant=f"tenant {handle}", deadline=1.0)
        if handle % 2:
            line.began(handle)
        line.ended(handle, 0.5, ["stop"] * (handle % 3), 7)
        line.ended(handle, 0.5, ["stop"], 7)  # once more is as good as once
    assert (line.waiting, line.waiting_tokens, len(line._running), len(line._tenants)) == (0, 0, 0, 0)
