"""Histograms count values by bounds that they do not exceed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire_server.spreads import Spread, one_two_five


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100), min_size=1, unique=True).map(sorted))
def test_each_bound_has_the_values_that_do_not_exceed_it(values: list[float], bounds: list[float]) -> None:
    spread = Spread(bounds)
    for value in values:
        spread.add(value)
    counted = [(bound, sum(value <= bound for value in values)) for bound in (*bounds, math.inf)]
    assert list(spread.so_far()) == counted
    assert spread.count == len(values)
    assert spread.total == pytest.approx(sum(values))


@pytest.mark.parametrize(
    ("most", "bounds"), [(1, [1]), (9, [1, 2, 5]), (100, [1, 2, 5, 10, 20, 50, 100]), (199, [1, 2, 5, 10, 20, 50, 100])]
)
def test_bounds_for_what_may_be_of_any_size_go_up_to_the_largest(most: int, bounds: list[int]) -> None:
    assert one_two_five(most) == bounds
