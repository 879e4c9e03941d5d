from typing import Any

import pytest

from quire_engine.scheduling.stopping import Ending, ending
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

EOS = frozenset({0, 1})


def end_of(output: list[int], max_length: int = 100, **params: Any) -> Ending | None:
    sequence = Sequence(0, 0, [7, 7, *output], 2, SamplingParams(**params), seed=0)
    return ending(sequence, EOS, max_length)


def test_an_ordinary_token_ends_nothing() -> None:
    assert end_of([5]) is None


@pytest.mark.parametrize("eos", EOS)
def test_each_end_of_sequence_token_ends_without_a_reason_of_its_own(eos: int) -> None:
    assert end_of([5, eos]) == Ending("stop", None)


def test_ignore_eos_goes_on() -> None:
    assert end_of([0], ignore_eos=True) is None


def test_a_stop_token_is_named() -> None:
    assert end_of([9], stop_token_ids=(8, 9)) == Ending("stop", 9)


def test_a_stop_token_ends_also_where_end_of_sequence_is_ignored() -> None:
    assert end_of([0], ignore_eos=True, stop_token_ids=(0,)) == Ending("stop", 0)


@pytest.mark.parametrize("last", [0, 9])
def test_no_token_stops_before_min_tokens(last: int) -> None:
    assert end_of([5, last], min_tokens=2, stop_token_ids=(9,)) is None


def test_the_token_after_min_tokens_may_stop() -> None:
    assert end_of([5, 5, 0], min_tokens=2) == Ending("stop")


def test_max_tokens_end_with_length() -> None:
    assert end_of([5, 5], max_tokens=2) == Ending("length")


def test_a_stop_on_the_last_token_is_a_stop() -> None:
    assert end_of([5, 0], max_tokens=2) == Ending("stop")


def test_a_full_context_ends_with_length() -> None:
    assert end_of([5, 5], max_length=4, max_tokens=None) == Ending("length")


def test_without_max_tokens_the_context_is_the_limit() -> None:
    assert end_of([5] * 97, max_length=100, max_tokens=None) is None
