"""The scheduler's promises one by one; test_any_workload.py puts them all under random workloads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from tests.support.invariants import check_invariants
from tests.support.requests import submission
from tests.support.scripted import VOCABULARY, ScriptedRunner, count_up, scripted_engine

from quire_engine.engine import Engine
from quire_engine.scheduling.batch import SpanResult
from quire_engine.sequence import Emission, Submission, TokenLogprobs


def engine_with(*requests: Any, **decisions: Any) -> Engine:
    engine = scripted_engine(**decisions)
    for request in requests:
        engine.add(request)
    return engine


def spans(engine: Engine) -> list[tuple[int, int, int]]:
    """Handle, start and length of each span of the next step, which is computed and committed."""
    engine.step()
    check_invariants(engine.scheduler)
    assert isinstance(engine.runner, ScriptedRunner)
    return [(handle, start, length) for handle, _, start, length in engine.runner.batches[-1]]


def run(engine: Engine) -> dict[tuple[int, int], list[Emission]]:
    """Step to the end; emissions by handle and choice."""
    told: dict[tuple[int, int], list[Emission]] = {}
    while engine.has_work:
        for emission in engine.step():
            told.setdefault((emission.handle, emission.index), []).append(emission)
        check_invariants(engine.scheduler)
    return told


def tokens(emissions: list[Emission]) -> list[int]:
    return [token for emission in emissions for token in emission.token_ids]


def prompt(length: int, start: int = 1) -> list[int]:
    return [(start + i) % VOCABULARY for i in range(length)]


# --- the token budget


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks() -> None:
    engine = engine_with(submission(0, prompt(10)), max_num_batched_tokens=4)
    assert [spans(engine) for _ in range(4)] == [[(0, 0, 4)], [(0, 4, 4)], [(0, 8, 2)], [(0, 10, 1)]]


def test_running_sequences_come_before_the_waiting_line() -> None:
    engine = engine_with(submission(0, prompt(3)), max_num_batched_tokens=4)
    spans(engine)
    engine.add(submission(1, prompt(6)))
    assert spans(engine) == [(0, 3, 1), (1, 0, 3)]
    assert spans(engine) == [(0, 4, 1), (1, 3, 3)]
    assert spans(engine) == [(0, 5, 1), (1, 6, 1)]


def test_no_more_sequences_run_than_there_are_seats() -> None:
    engine = engine_with(*(submission(h, prompt(2), max_tokens=2) for h in range(3)), max_num_seqs=2)
    assert spans(engine) == [(0, 0, 2), (1, 0, 2)]
    assert spans(engine) == [(0, 2, 1), (1, 2, 1)]
    assert spans(engine) == [(2, 0, 2)]


def test_who_came_first_is_served_first() -> None:
    engine = engine_with(submission(7, prompt(2)), submission(3, prompt(2)), max_num_batched_tokens=2)
    assert spans(engine) == [(7, 0, 2)]


def test_without_work_a_step_computes_nothing() -> None:
    engine = engine_with()
    assert engine.step() == []
    assert not engine.has_work


# --- priority


def test_a_lower_priority_number_is_served_first() -> None:
    requests = [submission(h, prompt(2), priority=p) for h, p in enumerate((1, 0, -1))]
    engine = engine_with(*requests, scheduling_policy="priority", max_num_seqs=1)
    assert spans(engine) == [(2, 0, 2)]


def test_a_better_class_takes_the_seat_of_a_worse_one() -> None:
    engine = engine_with(submission(0, prompt(2), priority=1), scheduling_policy="priority", max_num_seqs=1)
    spans(engine)
    engine.add(submission(1, prompt(2), priority=0))
    assert spans(engine) == [(1, 0, 2)]
    assert engine.stats().preemptions == 1


def test_a_better_class_takes_the_blocks_of_worse_ones_from_the_last_on() -> None:
    engine = engine_with(
        *(submission(h, prompt(9, start=20 * h), priority=1 + h) for h in range(2)),
        scheduling_policy="priority",
        num_blocks=6,
    )
    spans(engine)
    engine.add(submission(2, prompt(9, start=60), priority=0))
    assert [handle for handle, _, _ in spans(engine)] == [0, 2]


def test_equals_do_not_take_each_others_place() -> None:
    engine = engine_with(submission(0, prompt(2)), scheduling_policy="priority", max_num_seqs=1)
    spans(engine)
    engine.add(submission(1, prompt(2)))
    assert spans(engine) == [(0, 2, 1)]


# --- blocks run out


def test_the_last_to_come_gives_way_when_blocks_run_out() -> None:
    requests = [submission(h, prompt(7, start=10 * h), max_tokens=8) for h in range(2)]
    engine = engine_with(*requests, num_blocks=4)
    assert spans(engine) == [(0, 0, 7), (1, 0, 7)]
    assert spans(engine) == [(0, 7, 1), (1, 7, 1)]
    assert spans(engine) == [(0, 8, 1)]
    assert [sequence.handle for sequence in engine.scheduler.waiting] == [1]
    assert engine.stats().preemptions == 1


def test_a_preempted_sequence_answers_as_if_it_had_run_alone() -> None:
    def request(handle: int) -> Any:
        return submission(handle, prompt(7, start=10 * handle), max_tokens=8)

    crowd = run(engine_with(request(0), request(1), num_blocks=4))
    alone = run(engine_with(request(1)))
    assert tokens(crowd[1, 0]) == tokens(alone[1, 0])


def test_a_preempted_sequence_comes_back_before_those_that_came_later() -> None:
    requests = [submission(h, prompt(7, start=10 * h), max_tokens=8) for h in range(2)]
    engine = engine_with(*requests, num_blocks=4)
    for _ in range(3):
        spans(engine)
    engine.add(submission(2, prompt(3)))
    assert [sequence.handle for sequence in engine.scheduler.waiting] == [1, 2]


def test_a_sequence_that_fills_the_whole_cache_ends_with_length() -> None:
    (emissions,) = run(engine_with(submission(0, prompt(5), max_tokens=None), num_blocks=2)).values()
    assert emissions[-1].finish_reason == "length"
    assert 5 + len(tokens(emissions)) == 8


def test_a_finished_sequence_frees_its_blocks_in_the_same_step() -> None:
    engine = engine_with(submission(0, prompt(9), max_tokens=1))
    engine.step()
    assert engine.stats().kv_usage == 0


# --- prefix caching


def test_a_repeated_prompt_is_taken_from_the_cache_but_for_its_last_block() -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1))
    engine.step()
    engine.add(submission(1, prompt(12), max_tokens=1))
    assert spans(engine) == [(1, 8, 4)]


def test_the_last_token_is_computed_also_when_all_is_cached() -> None:
    engine = engine_with(submission(0, prompt(13), max_tokens=1))
    engine.step()
    engine.add(submission(1, prompt(13), max_tokens=1))
    (emissions,) = run(engine).values()
    assert emissions[0].cached_tokens == 12


def test_an_answer_is_cached_for_the_next_turn_of_a_conversation() -> None:
    engine = engine_with(submission(0, prompt(6), max_tokens=7))
    (first,) = run(engine).values()
    engine.add(submission(1, [*prompt(6), *tokens(first), 5], max_tokens=1))
    (second,) = run(engine).values()
    assert second[0].cached_tokens == 12


def test_different_salts_share_nothing() -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1, cache_salt="ann"))
    engine.step()
    engine.add(submission(1, prompt(12), max_tokens=1, cache_salt="ben"))
    engine.add(submission(2, prompt(12), max_tokens=1, cache_salt="ann"))
    assert spans(engine) == [(1, 0, 12), (2, 8, 4)]


def test_without_prefix_caching_nothing_is_kept() -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1), enable_prefix_caching=False)
    engine.step()
    engine.add(submission(1, prompt(12), max_tokens=1))
    assert spans(engine) == [(1, 0, 12)]
    assert engine.stats().prefix_cache_queries == 0


def test_without_prefix_caching_only_the_choices_of_one_request_share() -> None:
    engine = engine_with(enable_prefix_caching=False)
    for handle in range(2):
        engine.add(submission(handle, prompt(9), n=2, temperature=1, max_tokens=1))
        assert spans(engine) == [(handle, 0, 9)]
        assert spans(engine) == [(handle, 8, 1)]


def test_queries_and_hits_are_counted_in_tokens() -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1))
    engine.step()
    engine.add(submission(1, prompt(12), max_tokens=1))
    engine.step()
    stats = engine.stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (24, 8)


def test_every_emission_tells_the_cached_tokens_of_the_first_run() -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1))
    engine.step()
    engine.add(submission(1, prompt(12), max_tokens=3))
    (emissions,) = run(engine).values()
    assert [emission.cached_tokens for emission in emissions] == [8, 8, 8]


# --- several choices


def test_choices_share_the_blocks_of_their_prompt() -> None:
    engine = engine_with(submission(0, prompt(9), n=3, temperature=1, seed=1))
    assert spans(engine) == [(0, 0, 9)]
    assert spans(engine) == [(0, 9, 1), (0, 8, 1), (0, 8, 1)]
    assert engine.stats().kv_usage * 256 == 2 + 3


def test_choices_that_wait_hold_no_prompt_of_their_own() -> None:
    asked = submission(0, prompt(9), n=50, temperature=1, seed=1)
    engine = engine_with(asked, max_num_seqs=2)
    spans(engine)
    sequences = engine.scheduler.requests[0].values()
    assert len({id(sequence.tokens) for sequence in sequences}) == 2  # the one that runs has its own
    told = run(engine)
    assert asked.request.token_ids == prompt(9)
    assert {key: tokens(t) for key, t in told.items() if key[1]} == {
        key: tokens(t) for key, t in run(engine_with(asked)).items() if key[1]
    }


@pytest.mark.parametrize("caching", [True, False])
def test_choices_draw_differently_and_whatever_the_cache(caching: bool) -> None:
    request = submission(0, prompt(9), n=3, temperature=1, seed=1)
    told = run(engine_with(request, enable_prefix_caching=caching))
    assert len({tuple(tokens(emissions)) for emissions in told.values()}) == 3
    assert {key: tokens(t) for key, t in told.items()} == {
        key: tokens(t) for key, t in run(engine_with(request, num_blocks=8)).items()
    }


def test_choices_share_their_prompt_also_without_prefix_caching() -> None:
    engine = engine_with(submission(0, prompt(9), n=2, temperature=1), enable_prefix_caching=False)
    spans(engine)
    assert spans(engine) == [(0, 9, 1), (0, 8, 1)]


def test_choices_come_before_requests_that_came_later() -> None:
    engine = engine_with(submission(0, prompt(4), n=2, temperature=1), submission(1, prompt(4)), max_num_seqs=2)
    engine.step()
    engine.abort(1)
    engine.add(submission(2, prompt(4)))
    engine.step()
    assert [sequence.handle for sequence in engine.scheduler.running] == [0, 0]


def test_when_the_first_choice_is_aborted_the_next_one_computes_the_prompt() -> None:
    engine = engine_with(submission(0, prompt(4), n=3, temperature=1, max_tokens=2))
    engine.abort(0, 0)
    check_invariants(engine.scheduler)
    assert set(run(engine)) == {(0, 1), (0, 2)}


# --- aborts


def test_an_abort_frees_everything_at_once() -> None:
    engine = engine_with(submission(0, prompt(9), n=3, temperature=1))
    engine.step()
    engine.abort(0)
    check_invariants(engine.scheduler)
    assert not engine.has_work
    assert engine.stats().kv_usage == 0
    assert engine.stats().finished == {"abort": 3}


def test_aborting_one_choice_leaves_the_others() -> None:
    engine = engine_with(submission(0, prompt(9), n=2, temperature=1, max_tokens=4))
    engine.step()
    engine.abort(0, 0)
    assert set(run(engine)) == {(0, 1)}


def test_aborting_what_has_ended_or_never_was_is_no_error() -> None:
    engine = engine_with(submission(0, prompt(2), max_tokens=1))
    engine.step()
    engine.abort(0)
    engine.abort(99, 3)


def test_what_was_computed_for_an_aborted_sequence_is_dropped() -> None:
    engine = engine_with(submission(0, prompt(2)), submission(1, prompt(2)))
    batch = engine.scheduler.schedule()
    engine.abort(0)
    (emission,) = engine.scheduler.commit(batch, [SpanResult(1), SpanResult(2)])
    check_invariants(engine.scheduler)
    assert emission.handle == 1


# --- steps that fail


def test_a_sequence_whose_token_cannot_be_drawn_ends_alone_and_publishes_nothing() -> None:
    engine = engine_with(submission(0, prompt(9)), submission(1, prompt(9, start=50)))
    batch = engine.scheduler.schedule()
    bad, good = engine.scheduler.commit(batch, [SpanResult(error="not a number"), SpanResult(1)])
    check_invariants(engine.scheduler)
    assert (bad.finish_reason, bad.error) == ("error", "not a number")
    assert good.finish_reason is None
    engine.add(submission(2, prompt(9)))
    assert (2, 0, 9) in spans(engine)


# --- what is told


def test_log_probabilities_of_the_drawn_tokens_are_told_when_asked_for() -> None:
    (emissions,) = run(engine_with(submission(0, prompt(3), logprobs=0, max_tokens=2))).values()
    assert [emission.logprobs[0].token_id for emission in emissions] == tokens(emissions)


@pytest.mark.parametrize("blocks", [256, 7])
def test_prompt_scores_are_told_once_chunk_by_chunk_whatever_is_cached_or_preempted(blocks: int) -> None:
    engine = engine_with(submission(0, prompt(12), max_tokens=1), max_num_batched_tokens=5, num_blocks=blocks)
    run(engine)
    for handle in (1, 2):
        engine.add(submission(handle, prompt(12), prompt_logprobs=0, max_tokens=9))
    told = run(engine)
    for handle in (1, 2):
        scores: list[TokenLogprobs] = [s for emission in told[handle, 0] for s in emission.prompt_logprobs]
        assert [score.token_id for score in scores] == prompt(12)[1:]
        assert told[handle, 0][0].cached_tokens == 0
    assert (engine.stats().preemptions > 0) == (blocks == 7)


def test_only_the_first_choice_tells_prompt_scores() -> None:
    told = run(engine_with(submission(0, prompt(6), prompt_logprobs=0, n=2, temperature=1, max_tokens=2)))
    assert [len(told[0, index][0].prompt_logprobs) for index in (0, 1)] == [5, 0]


def test_a_resumed_stream_goes_on_where_it_was() -> None:
    whole = tokens(run(engine_with(submission(0, prompt(5), max_tokens=8)))[0, 0])
    request = submission(0, prompt(5), max_tokens=8)
    resumed = type(request)(0, request.request, {0: tuple(whole[:3])})
    emissions = run(engine_with(resumed))[0, 0]
    assert tokens(emissions) == whole[3:]
    assert emissions[-1].finish_reason == "length"


def test_the_prompt_of_a_stream_that_is_resumed_was_counted_by_the_engine_before() -> None:
    request = submission(0, prompt(9), max_tokens=8).request
    fresh, resumed = engine_with(Submission(0, request)), engine_with(Submission(0, request, {0: (1, 2, 3)}))
    for engine in (fresh, resumed):
        run(engine)
    assert (fresh.stats().prompt_tokens, fresh.stats().prefix_cache_queries) == (9, 9)
    assert (resumed.stats().prompt_tokens, resumed.stats().prefix_cache_queries) == (0, 0)


def test_only_the_choices_that_were_unfinished_are_resumed() -> None:
    request = submission(0, prompt(9), n=3, temperature=1, seed=4, max_tokens=6)
    whole = run(engine_with(request))
    emitted = {1: tuple(tokens(whole[0, 1])[:2]), 2: ()}
    told = run(engine_with(type(request)(0, request.request, emitted)))
    assert tokens(told[0, 1]) == tokens(whole[0, 1])[2:]
    assert tokens(told[0, 2]) == tokens(whole[0, 2])
    assert (0, 0) not in told


def test_requests_without_a_seed_get_one_from_the_engines() -> None:
    def answers(seed: int) -> list[list[int]]:
        engine = Engine(ScriptedRunner(4), scripted_engine().decisions, seed=seed)
        for handle in range(2):
            engine.add(submission(handle, prompt(3), temperature=1))
        return [tokens(emissions) for emissions in run(engine).values()]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)
    assert answers(1)[0] != answers(1)[1]


def test_counters_add_up() -> None:
    engine = engine_with(
        submission(0, prompt(5), max_tokens=3), submission(1, prompt(4), n=2, temperature=1, max_tokens=2)
    )
    run(engine)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.prompt_tokens, stats.generation_tokens) == (0, 0, 9, 7)
    assert stats.finished == {"length": 3}


def test_gauges_tell_who_runs_and_who_waits() -> None:
    engine = engine_with(
        submission(0, prompt(2), n=2, temperature=1), submission(1, prompt(2)), max_num_seqs=1, num_blocks=4
    )
    assert (engine.stats().running, engine.stats().waiting) == (0, 3)
    engine.step()
    assert (engine.stats().running, engine.stats().waiting) == (1, 2)


def test_a_script_can_be_anything() -> None:
    engine = scripted_engine(count_up)
    engine.add(submission(0, [5], max_tokens=3))
    assert tokens(run(engine)[0, 0]) == [6, 7, 8]


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys, quire_engine, quire_engine.engine, quire_engine.admission, quire_engine.link.process;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
