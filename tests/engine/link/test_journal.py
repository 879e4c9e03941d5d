from __future__ import annotations

from random import Random
from typing import Any

from tests.support.requests import generate_request, submission

from quire_engine.link.frames import Abort, Add, Report, ResetPrefixCache
from quire_engine.link.journal import Journal
from quire_engine.sequence import Emission, Submission, Terms, TokenLogprobs
from quire_engine.stats import GAUGES, Stats
from quire_engine.timing import Progress

SCORE = TokenLogprobs(4, -0.5, 1)


def journal_of(*submissions: Submission, seed: int = 0, seats: int = 4) -> Journal:
    journal = Journal(seed, seats=seats)
    for each in submissions:
        journal.note(Add(each))
    return journal


def hear(journal: Journal, *emissions: Emission, **stats: Any) -> Report:
    return journal.hear(Report(list(emissions), Stats(**stats)))


def resumed(journal: Journal) -> list[Submission]:
    journal.broken_off()
    return [command.submission for command in journal.resume()]


def test_a_request_goes_on_with_the_ids_that_each_choice_has_given() -> None:
    journal = journal_of(submission(7, [1, 2], n=2))
    hear(journal, Emission(7, 0, (5,)), Emission(7, 1, (6, 7)))
    hear(journal, Emission(7, 0, (8,)))
    (again,) = resumed(journal)
    assert again.emitted_ids == {0: (5, 8), 1: (6, 7)}


def test_choices_that_have_ended_are_not_told_again() -> None:
    journal = journal_of(submission(0, [1], n=3), submission(1, [1]))
    hear(journal, Emission(0, 1, (5,), finish_reason="stop"), Emission(1, 0, (5,), finish_reason="length"))
    journal.note(Abort(0, 2))
    (again,) = resumed(journal)
    assert again.emitted_ids == {0: ()}


def test_an_aborted_request_is_not_told_again() -> None:
    journal = journal_of(submission(0, [1], n=3))
    journal.note(Abort(0))
    assert resumed(journal) == []


def test_requests_are_told_again_in_the_order_in_which_they_came() -> None:
    journal = journal_of(*(submission(handle, [1]) for handle in (3, 1, 2)))
    assert [each.handle for each in resumed(journal)] == [3, 1, 2]


def test_a_request_without_a_seed_keeps_the_one_that_an_engine_would_have_drawn() -> None:
    seeds = Random(9)
    journal = journal_of(submission(0, [1]), submission(1, [1], seed=4), submission(2, [1]), seed=9)
    drawn = [seeds.getrandbits(63), None, seeds.getrandbits(63)]
    assert [each.seed for each in resumed(journal)] == drawn
    assert [each.seed for each in resumed(journal)] == drawn


def test_scores_of_the_prompt_that_were_told_are_not_asked_for_again() -> None:
    journal = journal_of(submission(0, [1, 2, 3, 4], prompt_logprobs=0))
    hear(journal, Emission(0, 0, (), prompt_logprobs=(SCORE, SCORE)))
    assert [each.scored for each in resumed(journal)] == [2]


def test_what_came_from_the_cache_is_told_as_it_first_was() -> None:
    journal = journal_of(submission(0, [1, 2], n=2))
    hear(journal, Emission(0, 0, (5,), cached_tokens=16, bypassed_tokens=1))
    resumed(journal)
    (begun, fresh) = hear(
        journal, Emission(0, 0, (6,), cached_tokens=0), Emission(0, 1, (6,), cached_tokens=32)
    ).emissions
    assert (begun.cached_tokens, begun.bypassed_tokens) == (16, 1)
    assert fresh.cached_tokens == 32


def test_counters_go_on_where_the_last_engine_ended_and_gauges_do_not() -> None:
    journal = journal_of(submission(0, [1, 2], n=2))
    hear(journal, Emission(0, 1, (5,), finish_reason="stop"), generation_tokens=9, running=2, finished={"stop": 1})
    down = journal.broken_off().stats
    assert (down.running, down.waiting, down.generation_tokens, down.finished) == (0, 1, 9, {"stop": 1})
    now = hear(journal, generation_tokens=2, running=1, finished={"length": 1}).stats
    assert (now.running, now.waiting, now.generation_tokens) == (1, 0, 11)
    assert now.finished == {"stop": 1, "length": 1}


def test_every_field_of_the_stats_is_a_gauge_or_can_be_summed() -> None:
    journal = journal_of()
    counted = {name: 2 for name in Stats.__struct_fields__ if not isinstance(getattr(Stats(), name), dict)}
    hear(journal, **counted)
    journal.broken_off()
    summed = hear(journal, **counted).stats
    assert {name: getattr(summed, name) for name in counted} == {name: 2 if name in GAUGES else 4 for name in counted}


def test_who_is_late_without_an_engine_is_told_so() -> None:
    request = generate_request([1], n=2)
    journal = journal_of(Submission.of(0, request, Terms(deadline=10.0)), Submission.of(1, request))
    hear(journal, Emission(0, 0, (5,), finish_reason="stop"))
    journal.broken_off()
    assert journal.next_deadline == 10
    assert journal.overdue(9.5).emissions == []
    report = journal.overdue(10)
    assert [(each.handle, each.index, each.finish_reason) for each in report.emissions] == [(0, 1, "timeout")]
    assert report.stats.finished == {"timeout": 1}
    assert [each.handle for each in resumed(journal)] == [1]


def test_who_is_aborted_without_an_engine_is_counted() -> None:
    journal = journal_of(submission(0, [1], n=3), submission(1, [1]))
    journal.broken_off()
    journal.note_without_engine(Abort(0, 2))
    stats = journal.note_without_engine(Abort(0)).stats
    assert (stats.finished, stats.waiting) == ({"abort": 3}, 1)


def test_a_request_that_comes_without_an_engine_waits_for_the_next_one() -> None:
    journal = journal_of()
    journal.broken_off()
    assert journal.note_without_engine(Add(submission(0, [1]))).stats.waiting == 1
    assert [each.handle for each in resumed(journal)] == [0]


def test_an_engine_that_has_ended_has_no_cache_left_to_reset() -> None:
    journal = journal_of()
    for _ in range(3):
        journal.note(ResetPrefixCache())
    journal.hear(Report([], Stats(), resets=1))
    assert journal.broken_off().resets == 2
    assert journal.note_without_engine(ResetPrefixCache()).resets == 1


def test_those_by_whom_an_engine_may_have_ended_are_suspects_of_the_next_one() -> None:
    journal = journal_of(*(submission(handle, [1]) for handle in range(4)))
    assert journal.broken_off((1, 2, 9)).emissions == []
    assert [command.submission.is_suspect for command in journal.resume()] == [False, True, True, False]


def test_a_suspect_that_an_engine_ended_by_alone_is_ended() -> None:
    journal = journal_of(submission(0, [1]), submission(1, [1], n=2))
    journal.broken_off((0, 1))
    report = journal.broken_off((1,))
    assert [(each.handle, each.index, each.finish_reason) for each in report.emissions] == [
        (1, 0, "error"),
        (1, 1, "error"),
    ]
    assert report.stats.finished == {"error": 2}
    assert [each.handle for each in resumed(journal)] == [0]


def test_who_was_alone_by_chance_is_tried_once_more() -> None:
    journal = journal_of(submission(0, [1]))
    assert journal.broken_off((0,)).emissions == []
    assert [command.submission.is_suspect for command in journal.resume()] == [True]


def test_who_was_there_when_two_engines_ended_is_a_suspect() -> None:
    journal = journal_of(submission(0, [1]))
    journal.broken_off(())
    journal.note(Add(submission(1, [1])))
    journal.broken_off(())
    assert [command.submission.is_suspect for command in journal.resume()] == [True, False]


def suspects(journal: Journal) -> list[int]:
    return [command.submission.handle for command in journal.resume() if command.submission.is_suspect]


def test_whom_no_engine_can_have_computed_is_no_suspect() -> None:
    journal = journal_of(*(submission(handle, [1]) for handle in range(20)), seats=3)
    journal.hear(Report([], Stats(), progress=[Progress(1, 0.5), Progress(7, 0.5)]))
    journal.broken_off(())
    journal.hear(Report([], Stats(), progress=[Progress(1, 0.5), Progress(9, 0.5)]))
    journal.broken_off(())
    assert suspects(journal) == [0, 1, 2, 3]  # 9 and 7 ran in one of the two, the others were next in line twice


def test_next_in_line_are_the_first_of_each_tenant() -> None:
    tenants = {handle: Terms(tenant) for handle, tenant in enumerate(("a", "a", "a", "b", "b"))}
    journal = journal_of(*(submission(handle, [1], terms=terms) for handle, terms in tenants.items()), seats=1)
    journal.broken_off(())
    journal.broken_off(())
    assert suspects(journal) == [0, 3]


def test_next_in_line_are_those_of_the_highest_priority() -> None:
    journal = journal_of(*(submission(handle, [1], priority=-handle) for handle in range(4)), seats=2)
    journal.broken_off(())
    journal.broken_off(())
    assert suspects(journal) == [2, 3]


def test_a_request_that_cannot_be_told_to_the_next_engine_ends() -> None:
    journal = journal_of(submission(0, [1], n=2), submission(1, [1]))
    journal.broken_off()
    report = journal.refused(0, OverflowError("too large"))
    assert [(each.index, each.finish_reason) for each in report.emissions] == [(0, "error"), (1, "error")]
    assert "too large" in (report.emissions[0].error or "")
    assert report.stats.finished == {"error": 2}
    assert [each.handle for each in resumed(journal)] == [1]


def test_nobody_is_to_blame_for_sleep() -> None:
    journal = journal_of(submission(0, [1]))
    for _ in range(3):
        journal.broken_off()
    assert [command.submission.is_suspect for command in journal.resume()] == [False]
