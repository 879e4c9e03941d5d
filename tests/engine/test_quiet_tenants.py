"""One tenant with fifty requests under way and nine with two each: nobody is drowned, and next to nothing is lost.

In simulated time, so that what is seen here depends on no machine; benchmarks/fairness.py asks a real server.
"""

from __future__ import annotations

from functools import cache

import pytest
from tests.support.simulated import Crowd, Shares, Simulation

QUIET = {f"quiet {number}": 2 for number in range(9)}
EVERYBODY = {"noisy": 50, **QUIET}
SECONDS = 100.0


@cache
def shares(policy: str, *, crowded: bool = True, pause: float = 0.02, blocks: int = 4096) -> Shares:
    simulation = Simulation(
        {
            "scheduling_policy": policy,
            "max_num_seqs": 20,
            "max_num_batched_tokens": 2048,
            "num_blocks": blocks,
        }
    )
    return Crowd(EVERYBODY if crowded else QUIET, pause=pause).meet(simulation, SECONDS)


@pytest.mark.parametrize("pause", [0.001, 0.02, 0.1])
def test_all_tenants_have_nearly_the_same(pause: float) -> None:
    assert shares("fair", pause=pause).jain >= 0.98


@pytest.mark.parametrize("pause", [0.001, 0.02, 0.1])
def test_quiet_tenants_wait_no_longer_than_without_the_noisy_one(pause: float) -> None:
    alone = shares("fair", crowded=False, pause=pause).wait(QUIET)
    assert shares("fair", pause=pause).wait(QUIET) <= 1.2 * alone


def test_hardly_anything_is_lost_by_it() -> None:
    assert shares("fair").speed >= 0.97 * shares("fcfs").speed


def test_first_come_first_served_lets_the_noisy_one_drown_the_others() -> None:
    unfair = shares("fcfs")
    assert unfair.jain < 0.5
    assert unfair.wait(QUIET) > 10 * shares("fair").wait(QUIET)


@pytest.mark.parametrize("blocks", [260, 400])
def test_where_blocks_are_what_is_short_little_is_computed_twice(blocks: int) -> None:
    tight = shares("fair", blocks=blocks)
    assert tight.jain >= 0.95
    assert tight.speed >= 0.97 * shares("fcfs", blocks=blocks).speed
