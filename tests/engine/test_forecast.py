from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.scripted import scripted_decisions

from quire_engine.forecast import Ahead, Faded, Fit, Forecast
from quire_engine.stats import Stats
from quire_protocol import SamplingParams


def seen(steps: list[int], base: float, slope: float, **gauges: int) -> Forecast:
    """A forecast after steps with so many tokens, each of which took so long."""
    forecast = Forecast(scripted_decisions(max_num_batched_tokens=100, max_num_seqs=4))
    tokens, seconds = 0, 0.0
    for number, rows in enumerate(steps, start=1):
        tokens, seconds = tokens + rows, seconds + base + slope * rows
        forecast.observe(Stats(**gauges, steps=number, busy_seconds=seconds, computed_tokens=tokens))
    return forecast


@given(
    base=st.floats(0.001, 0.1),
    slope=st.floats(0.00001, 0.01),
    steps=st.lists(st.integers(1, 2048), min_size=20, max_size=200).filter(lambda steps: max(steps) > 2 * min(steps)),
)
def test_what_a_step_costs_and_what_a_token_adds_are_told_apart(base: float, slope: float, steps: list[int]) -> None:
    forecast = seen(steps, base, slope)
    assert forecast.step(1000) == pytest.approx(base + 1000 * slope, rel=0.05)


def test_steps_that_were_alike_say_nothing_about_longer_ones() -> None:
    assert seen([4] * 50, 0.01, 0.001).step(100) == pytest.approx(0.014)


def test_a_line_is_never_below_zero() -> None:
    fit = Fit()
    for tokens, seconds in ((1, 0.010), (100, 0.001)) * 20:
        fit.observe(tokens, seconds)
    assert min(fit.line) >= 0


def test_newer_steps_count_more() -> None:
    forecast = Forecast(scripted_decisions())
    seconds = 0.0
    for step in range(1, 1201):
        seconds += 0.1 if step <= 100 else 0.01
        forecast.observe(Stats(steps=step, busy_seconds=seconds, computed_tokens=step))
    assert forecast.step(1) == pytest.approx(0.01, rel=0.1)


def test_a_prompt_is_computed_in_steps_beside_those_that_run() -> None:
    forecast = seen([10, 100] * 20, 0.01, 0.001, running=20)
    assert forecast.prefill(200) == pytest.approx(2 * 0.11 + 0.01 + 0.001 * 60, rel=0.01)


def test_nothing_is_foretold_from_nothing() -> None:
    forecast = Forecast(scripted_decisions())
    assert forecast.first_token(10_000, Ahead(10, 10_000, 10_000)) == forecast.decode(10_000) == 0


def test_a_seat_is_waited_for_as_long_as_the_answers_before_take() -> None:
    forecast = Forecast(scripted_decisions(max_num_seqs=4))
    for step in range(1, 101):
        done = {"stop": step // 5}
        forecast.observe(
            Stats(
                running=4,
                waiting=2,
                steps=step,
                busy_seconds=step / 10,
                computed_tokens=4 * step,
                generation_tokens=4 * step,
                finished=done,
            )
        )
    assert forecast.seat(ahead=3, answers=60) == pytest.approx((60 + 20) / 40, rel=0.05)  # 40 tokens a second


def test_empty_seats_are_not_waited_for() -> None:
    forecast = Forecast(scripted_decisions(max_num_seqs=4))
    for step in range(1, 101):
        counted = {"steps": step, "generation_tokens": step, "finished": {"stop": step // 10}}
        forecast.observe(Stats(running=2, waiting=step % 2, busy_seconds=step / 10, **counted))
    assert forecast.seat(ahead=1, answers=100) == 0
    assert forecast.seat(ahead=2, answers=100) > 0
    assert forecast.seat(ahead=2, answers=100, free=1) == 0


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 500}, 20),
        ({"max_tokens": None}, 20),
        ({"max_tokens": 500, "min_tokens": 30}, 30),
        ({"max_tokens": 500, "ignore_eos": True}, 500),
        ({"max_tokens": 5, "n": 3}, 15),
    ],
)
def test_an_answer_is_as_long_as_usual_within_what_was_asked(fields: dict[str, Any], length: float) -> None:
    forecast = Forecast(scripted_decisions())
    forecast.observe(Stats(steps=1, busy_seconds=1.0, generation_tokens=200, finished={"stop": 10, "abort": 5}))
    assert forecast.length_of(SamplingParams(**fields)) == length


def test_another_engines_counters_begin_anew() -> None:
    forecast = seen([1, 50] * 20, 0.01, 0.001)
    forecast.observe(Stats(steps=1, busy_seconds=0.5, computed_tokens=1))
    forecast.observe(Stats(steps=2, busy_seconds=0.511, computed_tokens=2))
    assert forecast.step(1) == pytest.approx(0.011, rel=0.05)


def test_what_was_counted_fades() -> None:
    ratio = Faded()
    ratio.observe(100, 1, 1)
    for _ in range(300):
        ratio.observe(1, 1, 1)
    assert ratio.value == pytest.approx(1, rel=0.01)
