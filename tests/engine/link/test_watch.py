"""Whether an engine hangs is judged by what it says, in ticks of whoever asks."""

from __future__ import annotations

from tests.support.scripted import scripted_engine

from quire_engine.link.base import Pulse
from quire_engine.link.frames import Beat, Report, Trial
from quire_engine.link.watch import SILENCE, TICK, Hung, Watch
from quire_engine.stats import Stats

REPORT = Report([], Stats())


def ticks(watch: Watch, seconds: float, *said: Beat) -> Hung | None:
    """Let time pass in which the engine says this at each tick; the first that comes of it."""
    for _ in range(int(seconds / TICK)):
        for message in said:
            watch.heard(message)
        if (hung := watch.tick()) is not None:
            return hung
    return None


def test_an_engine_that_says_nothing_is_stopped() -> None:
    watch = Watch(300)
    assert ticks(watch, SILENCE) is None
    hung = watch.tick()
    assert hung is not None
    assert "no sign of life for 30 seconds" in hung.reason
    assert hung.suspects == ()


def test_whatever_is_said_is_a_sign_of_life() -> None:
    watch = Watch(300)
    for message in (REPORT, Trial(1), Beat(None), Beat(5)):
        assert ticks(watch, SILENCE) is None
        watch.heard(message)


def test_an_engine_that_stays_at_one_turn_hangs_and_says_by_whom() -> None:
    watch = Watch(60)
    assert ticks(watch, 60, Beat(7, (3, 4))) is None
    hung = ticks(watch, 1, Beat(7, (3, 4)))
    assert hung is not None
    assert hung.suspects == (3, 4)
    assert "--engine-step-timeout" in hung.reason


def test_an_engine_that_gets_on_does_not_hang() -> None:
    watch = Watch(60)
    for turn in range(5):
        assert ticks(watch, 50, Beat(turn)) is None


def test_an_engine_that_waits_for_something_to_do_does_not_hang() -> None:
    assert ticks(Watch(60), 600, Beat(None)) is None


def test_a_turn_in_which_one_after_the_other_is_tried_may_take_as_long_for_each() -> None:
    watch = Watch(60)
    for handle in range(5):
        watch.heard(Trial(handle))
        assert ticks(watch, 50, Beat(7)) is None


def test_the_time_before_a_report_is_not_counted_to_the_next_turn() -> None:
    watch = Watch(60)
    assert ticks(watch, 60, Beat(7)) is None
    watch.heard(REPORT)
    assert watch.tick() is None


def test_without_a_limit_nothing_hangs() -> None:
    watch = Watch(0)
    watch.heard(Beat(7))
    assert ticks(watch, 10_000) is None


def test_a_pulse_has_another_number_for_each_turn_and_none_at_rest() -> None:
    pulse = Pulse()
    assert pulse.turn is None
    pulse.go_on()
    first = pulse.turn
    pulse.rest()
    assert pulse.turn is None
    pulse.go_on()
    assert None is not pulse.turn != first


def test_an_engine_at_rest_has_nobody_at_hand() -> None:
    assert scripted_engine().at_hand == ()
