"""What ended too often within the window is not started again."""

from __future__ import annotations

from quire_engine.link.deaths import Deaths


def test_only_those_within_the_window_count() -> None:
    deaths = Deaths(3, 10)
    assert [deaths.count(now) for now in (0, 5, 10.5, 11, 30)] == [False, False, False, True, False]


def test_the_verdict_says_how_many_in_which_time() -> None:
    deaths = Deaths(2, 600)
    assert (deaths.count(1), deaths.count(2)) == (False, True)
    assert deaths.verdict == "That makes 2 within 600 seconds: it is not started again."
