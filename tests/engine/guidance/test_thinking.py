from __future__ import annotations

import pytest

from quire_engine.constraint import Thinking
from quire_engine.guidance.thinking import ThinkingBudget

BEGIN, END = (7, 8), (1, 2, 3)


def budget(limit: int, *heard: int, is_open: bool = False) -> ThinkingBudget:
    found = ThinkingBudget(Thinking(limit=limit, begin=BEGIN, end=END, is_open=is_open))
    found.hear(heard)
    return found


@pytest.mark.parametrize(
    ("limit", "heard", "is_spent"),
    [
        (2, (50, 51, 52), False),  # no reasoning yet
        (2, (7, 8, 50), False),
        (2, (7, 8, 50, 51), True),
        (2, (9, 7, 8, 50, 51, 52), True),
        (9, (7, 8, 50, 1, 2, 3, 50, 51, 52, 53, 54, 55, 56), False),  # it has ended
        (9, (7, 8, 1, 2, 3, 7, 8, *range(50, 60)), False),  # and ends once
        (0, (7, 8), True),
    ],
)
def test_reasoning_is_counted_from_its_beginning_to_its_end(limit: int, heard: tuple[int, ...], is_spent: bool) -> None:
    assert budget(limit, *heard).is_spent == is_spent


def test_reasoning_that_the_prompt_began_counts_from_the_first_token() -> None:
    assert not budget(2, 50, is_open=True).is_spent
    assert budget(2, 50, 51, is_open=True).is_spent


@pytest.mark.parametrize(("heard", "missing"), [((), END), ((50, 1), (2, 3)), ((1, 2), (3,)), ((1, 2, 50), END)])
def test_what_is_missing_of_the_end_is_written(heard: tuple[int, ...], missing: tuple[int, ...]) -> None:
    assert budget(0, *heard, is_open=True).ending == missing
