from __future__ import annotations

from random import Random
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
    steps=st.lists(st.integers(1, 2048), min_size=20, max_size=200),
)
def test_what_a_step_costs_and_what_a_token_adds_are_told_apart(base: float, slope: float, steps: list[int]) -> None:
    forecast = seen([*steps, 1, 1000, 2], base, slope)
    for tokens in (1, 500, 1000):
        assert forecast.step(tokens) == pytest.approx(base + tokens * slope, rel=0.05)


@pytest.mark.parametrize("hiccup", [0, 0.15], ids=["", "a step that took long"])
def test_short_steps_do_not_make_long_prompts_expensive(hiccup: float) -> None:
    forecast = Forecast(scripted_decisions(max_num_batched_tokens=2048))
    draw, tokens, seconds = Random(1), 0, 0.0
    for number in range(1, 402):
        rows = 4 if number == 401 else draw.randint(1, 4)
        tokens, seconds = tokens + rows, seconds + 0.010 + 0.00005 * rows + abs(draw.gauss(0, 0.001))
        seconds += hiccup * (number == 401)
        forecast.observe(Stats(steps=number, busy_seconds=seconds, computed_tokens=tokens))
    assert 0.04 < forecast.prefill(8192) < 0.45  # which is what it takes


def test_a_prompt_says_what_others_take_for_as_long_as_it_counts() -> None:
    forecast = seen([1, 2048] + [1] * 100, 0.01, 0.0001)
    assert forecast.step(2048) == pytest.approx(0.01 + 0.2048, rel=0.01)


def test_the_first_step_of_all_does_not_count() -> None:
    forecast = Forecast(scripted_decisions())
    for number in range(1, 21):
        forecast.observe(Stats(steps=number, busy_seconds=0.3 + 0.01 * number, computed_tokens=20 * number))
    assert forecast.step(20) == pytest.approx(0.01)


def test_of_prompts_the_cache_has_its_usual_share() -> None:
    forecast = seen([10, 100] * 20, 0.01, 0.001)
    whole = forecast.prefill(1000)
    before = forecast.stats
    more = {"computed_tokens": before.computed_tokens + 10, "busy_seconds": before.busy_seconds + 0.02}
    found = {"prefix_cache_queries": 1000, "prefix_cache_hits": 900}
    forecast.observe(Stats(steps=before.steps + 1, **more, **found))  # type: ignore[arg-type]
    assert forecast.prefill(1000) == pytest.approx(0.1 * whole, rel=0.01)
    assert forecast.prefill(1) > 0  # a token of each is computed


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
    forecast.answered(20 * 20, 20)
    for step in range(1, 101):
        forecast.observe(
            Stats(
                running=4,
                waiting=2,
                steps=step,
                busy_seconds=step / 10,
                computed_tokens=4 * step,
                generation_tokens=4 * step,
            )
        )
    assert forecast.seat(ahead=3, answers=60) == pytest.approx((60 + 20) / 40, rel=0.05)  # 40 tokens a second


def test_empty_seats_are_not_waited_for() -> None:
    forecast = Forecast(scripted_decisions(max_num_seqs=4))
    forecast.answered(100, 10)
    for step in range(1, 101):
        counted = {"steps": step, "generation_tokens": step}
        forecast.observe(Stats(running=2, waiting=step % 2, busy_seconds=step / 10, **counted))  # type: ignore[arg-type]
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
    forecast.answered(200, 10)
    assert forecast.length_of(SamplingParams(**fields)) == length


def test_how_long_answers_are_is_learned_from_those_that_have_ended() -> None:
    forecast = Forecast(scripted_decisions())
    for _ in range(10):
        forecast.answered(100, 1)
    for step in range(1, 10_000):  # one long answer is alone for two minutes
        forecast.observe(Stats(running=1, steps=step, busy_seconds=step / 80, generation_tokens=step))
    assert forecast.length_of(SamplingParams(max_tokens=None)) == pytest.approx(100)


def test_what_was_counted_fades() -> None:
    ratio = Faded(memory=30)
    ratio.observe(100, 1)
    for _ in range(300):
        ratio.observe(1, 1)
    assert ratio.value == pytest.approx(1, rel=0.01)
