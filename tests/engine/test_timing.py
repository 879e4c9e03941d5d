from __future__ import annotations

from quire_engine.sequence import Emission
from quire_engine.timing import Progress, Stopwatch, Timing


def test_moments_come_in_their_order_and_durations_between_them() -> None:
    watch = Stopwatch(10.0, 5)
    watch.progressed(Progress(0, scheduled=11.0))
    watch.emitted(Emission(0, 0, (7,), cached_tokens=4), 13.0)
    watch.emitted(Emission(0, 0, (8, 9), cached_tokens=4), 15.0)
    watch.end(15.5)
    timing = watch.timing
    assert timing == Timing(10.0, 11.0, 13.0, 15.0, 15.5, 5, 4, 3, 0)
    assert (timing.queued, timing.prefill, timing.to_first_token) == (1, 2, 3)
    assert (timing.decode, timing.per_token, timing.total) == (2, 1, 5.5)


def test_what_has_not_come_is_none() -> None:
    timing = Stopwatch(10.0, 5).timing
    assert (timing.queued, timing.prefill, timing.decode, timing.per_token, timing.total) == (None,) * 5


def test_one_token_has_no_time_between_tokens() -> None:
    watch = Stopwatch(10.0, 5)
    watch.emitted(Emission(0, 0, (7,)), 13.0)
    assert watch.timing.decode == 0
    assert watch.timing.per_token is None


def test_who_is_resumed_by_another_engine_was_scheduled_when_it_first_ran() -> None:
    watch = Stopwatch(10.0, 5)
    watch.progressed(Progress(0, scheduled=11.0))
    watch.progressed(Progress(0, preemptions=2))
    watch.progressed(Progress(0, scheduled=99.0, preemptions=1))
    assert (watch.timing.scheduled, watch.timing.preemptions) == (11.0, 3)


def test_the_first_end_counts() -> None:
    watch = Stopwatch(10.0, 5)
    watch.end(12.0)
    watch.end(13.0)
    assert watch.timing.finished == 12.0
