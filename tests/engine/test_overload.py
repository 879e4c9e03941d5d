"""More comes than can be served: who is let in is served in time, and hardly anything is computed in vain.

In simulated time, so that what is seen here depends on no machine; benchmarks/overload.py asks a real server.
"""

from __future__ import annotations

from math import sin

import pytest
from tests.support.simulated import Load, Pace, Simulation

from quire_engine.errors import DeadlineUnreachable, Overloaded

SECONDS = 120
ALIKE = {"prompt": (96, 96), "answer": (56, 56)}
MIXED = {"prompt": (32, 160), "answer": (16, 96)}


def capacity(mix: dict[str, tuple[int, int]]) -> tuple[float, float]:
    """Requests and tokens of answers in a second, when all may wait as long as they like."""
    simulation = Simulation()
    Load(rate=1000, **mix).put_on(simulation, 1)
    return len(simulation.fates) / simulation.clock.now, simulation.tokens(simulation.clock.now) / simulation.clock.now


@pytest.mark.parametrize("within", [5.0, 20.0])
@pytest.mark.parametrize("times", [2, 4])
def test_requests_that_are_alike_keep_their_deadlines_at_full_speed(times: int, within: float) -> None:
    rate, tokens = capacity(ALIKE)
    simulation = Simulation()
    Load(rate=times * rate, within=within, **ALIKE).put_on(simulation, SECONDS)
    assert simulation.kept >= 0.97
    assert simulation.tokens(SECONDS) >= 0.95 * tokens * SECONDS


@pytest.mark.parametrize("within", [5.0, 10.0, 20.0])
def test_requests_of_all_lengths_keep_their_deadlines(within: float) -> None:
    rate, tokens = capacity(MIXED)
    simulation = Simulation()
    Load(rate=2 * rate, within=within, **MIXED).put_on(simulation, SECONDS)
    assert simulation.kept >= 0.95
    assert sum(fate.reason == "length" for fate in simulation.fates) >= rate * SECONDS  # the shorter ones, that is
    assert simulation.tokens(SECONDS) >= 0.85 * tokens * SECONDS


@pytest.mark.parametrize("times", [2, 4])
def test_a_machine_that_wavers_keeps_what_was_promised(times: int) -> None:
    rate, _ = capacity(ALIKE)
    simulation = Simulation(pace=Pace(slower=lambda now: 1 + 0.25 * sin(now / 6) + 0.1 * sin(now)))
    Load(rate=times * rate, within=5.0, **ALIKE).put_on(simulation, SECONDS)
    assert simulation.kept >= 0.97


def test_below_capacity_nobody_is_refused() -> None:
    rate, _ = capacity(MIXED)
    simulation = Simulation()
    Load(rate=0.8 * rate, within=20.0, **MIXED).put_on(simulation, SECONDS)
    assert not any(fate.refused for fate in simulation.fates)
    assert simulation.kept == 1


def test_without_deadlines_the_line_is_as_long_as_it_may_be() -> None:
    rate, _ = capacity(ALIKE)
    simulation = Simulation({"max_num_queued_reqs": 40})
    longest = 0
    for _ in range(3):
        Load(rate=3 * rate, **ALIKE).put_on(simulation, simulation.clock.now + 20)
        longest = max(longest, simulation.gate.waiting)
    assert longest <= 40
    refusals = {fate.refused for fate in simulation.fates}
    assert refusals == {None, Overloaded}
    assert simulation.kept == 1


def test_refusals_say_which_they_are() -> None:
    rate, _ = capacity(ALIKE)
    simulation = Simulation()
    Load(rate=4 * rate, within=5.0, **ALIKE).put_on(simulation, 30)
    assert {fate.refused for fate in simulation.fates} == {None, DeadlineUnreachable}
