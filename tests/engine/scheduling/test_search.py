"""A beam search in the scheduler: shared blocks, lock step, and no halt however scarce things are."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import pytest
from tests.support.invariants import check_invariants
from tests.support.plain_beams import plain_beam_search
from tests.support.requests import beam_request, submission
from tests.support.scripted import EOS, ScriptedRunner, checksum, likeliest, scripted_engine

from quire_engine.engine import Engine
from quire_engine.sequence import Emission, Sequence, Submission

PROMPT = [3, 1, 4, 1, 5, 9]


def searching(handle: int = 0, prompt: list[int] = PROMPT, **fields: Any) -> Submission:
    return Submission(handle, beam_request(prompt, **{"n": 3, "max_tokens": 6, "ignore_eos": True} | fields))


def engine_with(*requests: Submission, **decisions: Any) -> Engine:
    engine = scripted_engine(**decisions)
    for request in requests:
        engine.add(request)
    return engine


def step(engine: Engine) -> list[Emission]:
    emissions = engine.step()
    check_invariants(engine.scheduler)
    return emissions


def run(engine: Engine) -> list[Emission]:
    told: list[Emission] = []
    for _ in range(5_000):
        if not engine.has_work:
            return told
        told += step(engine)
    raise AssertionError("the engine does not come to an end")


def found(prompt: list[int] = PROMPT, width: int = 3, max_tokens: int = 6, **fields: Any) -> list[tuple[int, ...]]:
    answers = plain_beam_search(likeliest, prompt, width=width, max_tokens=max_tokens, **{"ignored": (EOS,)} | fields)
    return [answer.tokens for answer in answers]


def choices(told: list[Emission], handle: int = 0) -> list[tuple[int, ...]]:
    return [e.token_ids for e in sorted(told, key=lambda e: e.index) if e.handle == handle and e.finish_reason]


def batches(engine: Engine) -> list[list[tuple[int, int, int, int]]]:
    assert isinstance(engine.runner, ScriptedRunner)
    return engine.runner.batches


def test_its_answers_come_at_once_best_first() -> None:
    told = run(engine_with(searching()))
    assert choices(told) == found()
    assert [emission.index for emission in told] == [0, 1, 2]
    assert {emission.finish_reason for emission in told} == {"length"}


def test_the_prompt_is_computed_once_and_every_beam_one_token_at_a_time() -> None:
    engine = engine_with(searching())
    run(engine)
    spans = [[(index, start, length) for _, index, start, length in batch] for batch in batches(engine)]
    assert spans[0] == [(0, 0, 6)]
    assert spans[1:] == [[(index, position, 1) for index in range(3)] for position in range(6, 11)]


def test_beams_share_the_blocks_that_are_full_and_copy_the_one_that_is_not() -> None:
    engine = engine_with(searching(), block_size=4)
    step(engine)
    first, second, third = (sequence.blocks for sequence in engine.scheduler.searches[0].sequences)
    assert first[0] is second[0] is third[0]
    assert first[0].refs == 3
    assert len({first[1], second[1], third[1]}) == 3
    assert {tuple(copy) for copy in engine.scheduler.copies.values()} == {
        (first[1].index, second[1].index),
        (first[1].index, third[1].index),
    }


def test_at_the_end_of_a_block_nothing_is_copied() -> None:
    engine = engine_with(searching(), block_size=3)
    step(engine)
    assert engine.scheduler.copies == {}
    assert len({tuple(s.blocks) for s in engine.scheduler.searches[0].sequences}) == 1


def test_its_blocks_are_free_when_it_is_over() -> None:
    engine = engine_with(searching())
    run(engine)
    assert engine.stats().kv_usage == 0
    assert engine.scheduler.searches == {}


SCARCE = {
    "three-tokens-a-step": {"max_num_batched_tokens": 3},
    "one-token-a-step": {"max_num_batched_tokens": 1},
    "one-seat": {"max_num_seqs": 1},
    "two-seats": {"max_num_seqs": 2},
    "room-for-one-beam": {"num_blocks": 3},
    "room-for-two-beams": {"num_blocks": 5},
    "no-prefix-caching": {"num_blocks": 4, "enable_prefix_caching": False},
    "blocks-of-one": {"block_size": 1, "num_blocks": 13},
}


@pytest.mark.parametrize("scarce", SCARCE.values(), ids=SCARCE)
def test_scarcity_never_changes_the_beams(scarce: dict[str, Any]) -> None:
    engine = engine_with(searching(), searching(1, [9, 2, 6]), submission(2, [7, 7]), **scarce)
    told = run(engine)
    assert choices(told) == found()
    assert choices(told, 1) == found([9, 2, 6])


def test_a_beam_that_waits_for_its_mates_gives_its_blocks_to_them() -> None:
    engine = engine_with(searching(n=2), num_blocks=3)
    run(engine)
    assert engine.stats().preemptions > 0
    assert len(batches(engine)[-1]) == 1


@pytest.mark.parametrize("num_blocks", [5, 6, 7])
def test_no_step_is_empty_while_a_beam_lacks_a_block_that_a_settled_one_holds(num_blocks: int) -> None:
    engine = engine_with(searching(n=3, max_tokens=14), num_blocks=num_blocks, max_num_batched_tokens=1)
    while engine.has_work:
        computed = len(batches(engine))
        step(engine)
        assert len(batches(engine)) == computed + 1
    assert engine.stats().preemptions > 0


def test_a_search_goes_on_beside_somebody_who_keeps_a_seat() -> None:
    engine = engine_with(submission(1, [1, 2], max_tokens=200), searching(n=3), max_num_seqs=3)
    for _ in range(12):
        step(engine)
    assert [sequence.handle for sequence in engine.scheduler.running] == [1]
    assert engine.stats().finished["length"] == 3


def test_a_preempted_search_finds_its_prefix_in_the_cache() -> None:
    engine = engine_with(searching(n=2), num_blocks=3, block_size=4)
    run(engine)
    assert max(length for batch in batches(engine)[1:] for *_, length in batch) <= 4


def test_a_better_class_takes_the_place_of_a_search() -> None:
    engine = engine_with(searching(priority=1), scheduling_policy="priority", max_num_seqs=3)
    step(engine)
    step(engine)
    engine.add(submission(1, [1, 2], priority=0, max_tokens=2))
    step(engine)
    assert batches(engine)[-1][-1][0] == 1
    assert choices(run(engine)) == found()


def test_aborting_any_of_its_choices_ends_it() -> None:
    engine = engine_with(searching())
    step(engine)
    engine.abort(0, index=2)
    check_invariants(engine.scheduler)
    assert not engine.has_work
    assert engine.stats().kv_usage == 0


def test_it_fails_as_a_whole() -> None:
    def fail(sequence: Sequence, context: Seq[int]) -> int:
        if sequence.index == 2:
            raise RuntimeError("a beam that was told to fail")
        return checksum(sequence, context)

    engine = scripted_engine(fail, max_num_batched_tokens=2)
    engine.add(searching(prompt=[1, 2]))
    told = run(engine)
    assert [(e.handle, e.index, e.finish_reason) for e in told] == [(0, index, "error") for index in range(3)]
    assert engine.stats().kv_usage == 0


def test_ends_and_stop_tokens_are_told_apart() -> None:
    ends = frozenset(range(0, 97, 3))
    told = run(engine_with(searching(ignore_eos=False, stop_token_ids=tuple(ends - {EOS}), length_penalty=0.0)))
    assert choices(told) == found(ends=ends, length_penalty=0.0)
    for emission in told:
        last = emission.token_ids[-1]
        ended = ("stop", last or None) if last in ends else ("length", None)
        assert (emission.finish_reason, emission.stop_reason) == ended


@pytest.mark.parametrize(("asked", "alternatives"), [(0, 0), (2, 2), (9, 9)])
def test_log_probabilities_are_those_of_the_answer(asked: int, alternatives: int) -> None:
    for emission in run(engine_with(searching(logprobs=asked))):
        context = list(PROMPT)
        for told in emission.logprobs:
            ranked = likeliest(context, max(6, asked))
            assert (told.token_id, told.logprob) == ranked[told.rank - 1]
            assert list(zip(told.top_ids, told.top_logprobs, strict=True)) == ranked[:alternatives]
            context.append(told.token_id)
        assert tuple(context[len(PROMPT) :]) == emission.token_ids


def test_the_prompts_scores_come_before_the_answers() -> None:
    told = run(engine_with(searching(prompt_logprobs=0), max_num_batched_tokens=4))
    scores = [score.token_id for emission in told for score in emission.prompt_logprobs]
    assert scores == PROMPT[1:]
    assert choices(told) == found()


def test_who_does_not_search_is_not_disturbed() -> None:
    other = submission(1, [2, 3], max_tokens=8)
    together, alone = run(engine_with(searching(), other)), run(engine_with(other))
    assert [e.token_ids for e in together if e.handle == 1] == [e.token_ids for e in alone]


def test_a_prompt_that_was_cached_is_told() -> None:
    engine = engine_with(searching())
    run(engine)
    engine.add(searching(1))
    assert {emission.cached_tokens for emission in run(engine)} == {4}


def test_a_step_counts_a_token_for_each_live_beam() -> None:
    engine = engine_with(searching())
    run(engine)
    stats = engine.stats()
    assert (stats.generation_tokens, stats.prompt_tokens, stats.finished["length"]) == (18, 6, 3)
