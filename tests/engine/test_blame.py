"""Who made a batch fail is found by computing it in parts; what the others gave is what they would have given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise

import pytest
from tests.support.faults import PLACES, FaultyRunner, Rule, Where, any_of, first, nobody, whoever_has
from tests.support.invariants import check_invariants
from tests.support.requests import beam_request, submission
from tests.support.schedules import Answer, finish
from tests.support.scripted import Done, scripted_decisions, scripted_engine

from quire_engine.blame import Parts
from quire_engine.constraint import Constraint
from quire_engine.engine import ALONE, Engine
from quire_engine.errors import DeviceFault, RequestError
from quire_engine.runner.base import OutOfMemory, Pending
from quire_engine.scheduling.batch import Batch, SpanResult
from quire_engine.sequence import Rendered, Submission

CROWD = 16


def crowd(rule: Rule, where: Where = "before", *, overlapped: bool = False, requests: int = CROWD) -> Engine:
    engine = faulty(rule, where, async_scheduling=overlapped)
    for handle in range(requests):
        engine.add(submission(handle, [handle + 1, 7, 9], max_tokens=6, seed=handle, temperature=1.0))
    return engine


def faulty(rule: Rule, where: Where = "before", **changes: object) -> Engine:
    decisions = scripted_decisions(**changes)
    return Engine(FaultyRunner(scripted_engine(**changes).runner, rule, where), decisions)


def passes(engine: Engine) -> list[list[int]]:
    assert isinstance(engine.runner, FaultyRunner)
    return engine.runner.passes


def well() -> dict[tuple[int, int], Answer]:
    return finish(crowd(nobody))


def check_others(engine: Engine, *culprits: int) -> None:
    answers = finish(engine)
    for (handle, index), answer in well().items():
        if handle not in culprits:
            assert answers[handle, index] == answer
        else:
            assert answers[handle, index].finish_reason == "error"
    check_invariants(engine.scheduler)
    assert engine.scheduler.pool.num_free == len(engine.scheduler.pool.blocks)


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("output", [0, 1, 4])
def test_one_culprit_ends_alone_wherever_it_fails(where: Where, output: int, overlapped: bool) -> None:
    engine = crowd(whoever_has(5, output), where, overlapped=overlapped)
    check_others(engine, 5)


@pytest.mark.parametrize("overlapped", [False, True])
def test_several_culprits_of_one_step_end_and_no_others(overlapped: bool) -> None:
    rule = any_of(*(whoever_has(handle, 2) for handle in (0, 7, 8, 15)))
    check_others(crowd(rule, overlapped=overlapped), 0, 7, 8, 15)


def test_one_culprit_is_found_in_two_passes_for_each_halving() -> None:
    engine = crowd(whoever_has(5, 0))
    engine.step()
    # 16, 8, 4 and 2 fail; so does it alone; the other halves do not; and one pass asks whether the device is sound.
    assert [len(handles) for handles in passes(engine)] == [16, 8, 4, 4, 2, 1, 1, 1, 2, 8]


def test_a_culprit_keeps_what_it_had_been_given() -> None:
    answer = finish(crowd(whoever_has(5, 3)))[5, 0]
    assert answer.tokens == well()[5, 0].tokens[:3]
    assert "RuntimeError" in (answer.error or "")


def test_one_choice_is_to_blame_and_the_others_of_its_request_go_on() -> None:
    def answers(rule: Rule) -> dict[tuple[int, int], Answer]:
        engine = faulty(rule)
        engine.add(submission(0, [1, 2, 3], max_tokens=5, n=3, temperature=1.0, seed=1))
        return finish(engine)

    found, wanted = answers(whoever_has(0, 2, index=1)), answers(nobody)
    assert found[0, 1].finish_reason == "error"
    assert (found[0, 0], found[0, 2]) == (wanted[0, 0], wanted[0, 2])


def test_a_request_that_is_alone_is_tried_again_before_it_is_blamed() -> None:
    engine = crowd(first(1, whoever_has(0, 2)), requests=1)
    assert finish(engine)[0, 0] == well()[0, 0]
    assert engine.stats().failed_steps == 1


def test_whose_fault_it_is_by_its_own_word_is_told_which_field_is_wrong() -> None:
    def rule(batch: Batch) -> Exception | None:
        return RequestError("too hot", param="temperature") if whoever_has(5, 1)(batch) else None

    engine = crowd(rule)
    failed = [emission for _ in range(3) for emission in engine.step() if emission.finish_reason == "error"]
    assert [(each.handle, each.error, each.param) for each in failed] == [(5, "too hot", "temperature")]


def test_the_log_has_one_record_for_each_request_that_is_blamed_with_one_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    finish(crowd(any_of(whoever_has(5, 2), whoever_has(11, 3))))
    assert [record.getMessage() for record in caplog.records] == [
        f"Request {handle} could not be computed, and is ended." for handle in (5, 11)
    ]
    for record in caplog.records:
        assert caplog.handler.format(record).count("Traceback (most recent call last)") == 1


def test_the_log_has_the_error_of_a_step_that_failed_for_no_reason_that_was_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    finish(crowd(first(1, whoever_has(5, 2))))
    (record,) = caplog.records
    assert record.getMessage() == "A step of 16 sequences failed, and in parts it did not."
    assert caplog.handler.format(record).count("Traceback (most recent call last)") == 1


def test_nobody_is_blamed_where_nothing_can_be_computed() -> None:
    engine = crowd(lambda batch: RuntimeError("smoke"))
    with pytest.raises(DeviceFault, match="smoke") as caught:
        engine.step()
    assert caught.value.suspects == (0,)
    assert len(passes(engine)) == 6  # 16, 8, 4, 2, 1 and the one that asks whether the device is sound


def test_a_device_that_says_it_is_lost_is_not_asked_again() -> None:
    engine = crowd(lambda batch: DeviceFault("gone"))
    with pytest.raises(DeviceFault) as caught:
        engine.step()
    assert caught.value.suspects == tuple(range(CROWD))
    assert len(passes(engine)) == 1


# --- memory


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_what_the_device_has_no_memory_for_is_computed_in_smaller_parts(most: int, overlapped: bool) -> None:
    engine = crowd(lambda batch: OutOfMemory("full") if batch.tokens > most else None, overlapped=overlapped)
    check_others(engine)


def test_a_prompt_that_is_cut_for_want_of_memory_has_all_of_its_scores() -> None:
    def scored(rule: Rule) -> Answer:
        engine = faulty(rule)
        engine.add(submission(0, [*range(1, 40)], max_tokens=2, prompt_logprobs=0))
        return finish(engine)[0, 0]

    cut = scored(lambda batch: OutOfMemory("full") if batch.tokens > 3 else None)
    assert cut == scored(nobody)
    assert len(cut.prompt_logprobs) == 38


def test_where_there_is_no_memory_for_a_single_token_the_device_is_lost() -> None:
    with pytest.raises(DeviceFault, match="full"):
        crowd(lambda batch: OutOfMemory("full")).step()


# --- beams


def search(rule: Rule, where: Where = "before") -> dict[tuple[int, int], Answer]:
    engine = faulty(rule, where)
    for handle in (0, 1):
        engine.add(Submission(handle, beam_request([1, 2, 3, 4, 5], n=4, max_tokens=7, ignore_eos=True)))
    return finish(engine)


@pytest.mark.parametrize("where", PLACES)
def test_a_search_does_not_notice_that_any_one_of_its_steps_was_computed_in_parts(where: Where) -> None:
    wanted = search(nobody)
    for step in range(1, 9):
        assert search(only(step), where) == wanted


def only(step: int) -> Rule:
    """The pass of this number fails."""
    numbers = count(1)
    return lambda batch: RuntimeError("once") if next(numbers) == step else None


def test_a_search_ends_as_a_whole_and_alone() -> None:
    found, wanted = search(whoever_has(1, 3)), search(nobody)
    assert {found[1, index].finish_reason for index in range(4)} == {"error"}
    assert [found[0, index] for index in range(4)] == [wanted[0, index] for index in range(4)]


def test_a_copy_is_done_with_the_part_that_it_is_for() -> None:
    engine = faulty(nobody, block_size=4)
    engine.add(Submission(0, beam_request([1, 2, 3, 4, 5], n=3, max_tokens=7, ignore_eos=True)))
    engine.step()
    batch = engine.scheduler.schedule()
    assert len(batch.copies) == 2
    done: list[Batch] = []
    watched = FaultyRunner(engine.runner, done.append)  # type: ignore[arg-type]
    Parts(watched, batch).after(RuntimeError("x"))
    assert sorted(copy for part in done for copy in part.copies) == sorted(batch.copies)
    for part in done:
        held = {block.index for span in part.spans for block in span.sequence.blocks}
        assert {copy.target for copy in part.copies} <= held


# --- what cannot be taken in


def test_a_request_that_cannot_be_taken_in_ends_alone_and_is_told_so() -> None:
    engine = crowd(nobody)
    form = Rendered(constraint=Constraint("start: /a/", "response_format"))  # for which this engine has no guides
    engine.add(Submission(99, submission(99, [1], n=2).request, rendered=form))
    answers = finish(engine)
    assert [answers.pop((99, index)).finish_reason for index in (0, 1)] == ["error"] * 2
    assert answers == well()
    assert engine.stats().finished["error"] == 2


def test_a_refusal_is_told_by_an_engine_that_has_nothing_else_to_do() -> None:
    engine = faulty(nobody)
    form = Rendered(constraint=Constraint("start: /a/", "response_format"))
    engine.add(Submission(0, submission(0, [1]).request, rendered=form))
    assert engine.has_work
    assert finish(engine)[0, 0].finish_reason == "error"
    assert not engine.has_work


# --- suspects


def suspected(handle: int, *tokens: int) -> Submission:
    plain = submission(handle, tokens, max_tokens=2 * ALONE)
    return Submission(handle, plain.request, is_suspect=True)


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_suspect_is_computed_alone_for_a_while_and_answers_as_ever(overlapped: bool) -> None:
    engine = crowd(nobody, overlapped=overlapped)
    engine.step()
    engine.add(suspected(50, 1, 2))
    alone = faulty(nobody)
    alone.add(submission(50, [1, 2], max_tokens=2 * ALONE))
    answers = finish(engine)
    assert answers[50, 0].tokens == finish(alone)[50, 0].tokens
    own = [handles for handles in passes(engine) if 50 in handles]
    assert own[:ALONE] == [[50]] * ALONE
    for key, answer in well().items():
        assert answers[key].finish_reason == answer.finish_reason


def test_a_suspect_with_a_long_prompt_is_computed_alone_until_it_has_drawn_tokens() -> None:
    engine = faulty(nobody, max_num_batched_tokens=4)
    engine.add(submission(1, [7], max_tokens=60))
    engine.step()
    engine.add(suspected(50, *range(1, 61)))
    finish(engine)
    own = [handles for handles in passes(engine) if 50 in handles]
    chunks = 20  # of three tokens, beside one of the other request
    assert [len(handles) for handles in own[: chunks + ALONE]] == [1] * (chunks - 1 + ALONE) + [2]


def test_a_device_lost_by_a_suspect_is_known_to_be_lost_by_it() -> None:
    lost = whoever_has(51, 2)
    engine = crowd(lambda batch: DeviceFault("gone") if lost(batch) else None)
    for handle in (50, 51, 52):
        engine.add(suspected(handle, 1, 2))
    with pytest.raises(DeviceFault) as caught:
        finish(engine)
    assert caught.value.suspects == (51,)


def test_parts_leave_out_whoever_has_ended_meanwhile() -> None:
    engine = crowd(nobody)
    batch = engine.scheduler.schedule()
    engine.abort(3)
    parts = Parts(engine.runner, batch)
    assert len(parts.after(RuntimeError("x"))) == CROWD - 1
    assert all(one.sequence.handle < other.sequence.handle for one, other in pairwise(parts.batch.spans))


def test_a_suspect_in_line_changes_nothing_for_those_who_run() -> None:
    engine = faulty(nobody, async_scheduling=True, max_num_seqs=2)
    for handle in range(2):
        engine.add(submission(handle, [handle + 1, 7, 9], max_tokens=30))
    engine.step()
    engine.add(suspected(50, 1, 2))
    engine.step()
    assert passes(engine) == [[0, 1]] * 3  # together, and the third was launched ahead


# --- what is no number


NO_NUMBERS = SpanResult(error="no numbers", is_poisoned=True)


@dataclass
class Poisoned(FaultyRunner):
    """Gives no numbers for a request, in the passes of these numbers."""

    handle: int = 5
    in_passes: tuple[int, ...] = ()

    def run(self, batch: Batch) -> Pending:
        results = super().run(batch).wait()
        if len(self.passes) in self.in_passes:
            bad = [span.sequence.handle == self.handle for span in batch.spans]
            results = [NO_NUMBERS if each else result for each, result in zip(bad, results, strict=True)]
        return Done(results)


def poisoned(*in_passes: int) -> Engine:
    engine = crowd(nobody)
    engine.runner = Poisoned(engine.runner, nobody, in_passes=in_passes)
    return engine


def test_what_has_no_numbers_now_and_then_is_computed_anew_each_time_and_counted_once() -> None:
    engine = poisoned(2, 5)
    assert finish(engine) == well()
    assert engine.stats().corrupted_requests == 1


def test_what_has_no_numbers_twice_in_a_row_ends() -> None:
    engine = poisoned(2, 3)
    check_others(engine, 5)
    assert engine.stats().corrupted_requests == 1
