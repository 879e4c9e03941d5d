from __future__ import annotations

from tests.support.scripted import scripted_decisions

from quire_engine.config import Fused
from quire_server.report import described


def test_what_was_fused_and_what_was_left_is_told_with_the_reason() -> None:
    fusion = (
        Fused(what="norms", found=7, fused=7),
        Fused(what="attention blocks", found=3, fused=1, reasons=("SomeAttention computes another q",)),
    )
    told = dict(described("some", scripted_decisions(fusion=fusion)))
    assert told["fusion"] == "7 of 7 norms; 1 of 3 attention blocks (SomeAttention computes another q)"
    assert "fusion" not in dict(described("some", scripted_decisions()))


def test_how_steps_are_run_is_told_where_it_is_not_the_plain_way() -> None:
    told = dict(described("some", scripted_decisions(captures_graphs=True, async_scheduling=True)))
    assert "CUDA graphs" in told["steps"]
    assert "before the tokens of the one before are read" in told["steps"]
    assert "steps" not in dict(described("some", scripted_decisions()))


def test_the_line_is_told_with_its_order_and_its_limits() -> None:
    decisions = scripted_decisions(scheduling_policy="fair", max_num_queued_reqs=1200, max_num_queued_tokens=34_000)
    told = dict(described("some", decisions))
    assert told["line"] == "keys in turn, by their shares; up to 1,200 requests with 34,000 tokens wait"
