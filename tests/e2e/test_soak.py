"""Random load on a real server, in small; two minutes of it are `python -m benchmarks.soak`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.processes import run

LOAD = "--requests 60 --rate 0 --batch 8 --threads 1"


def test_random_requests_and_cancellations_leave_nothing_behind_and_change_no_answer(tmp_path: Path) -> None:
    result = tmp_path / "soak.json"
    ended = run(sys.executable, "-m", "benchmarks.soak", *LOAD.split(), "--json", str(result))
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(result.read_text())["rows"]
    counts = {row["what"]["what"]: row["ours"] for row in rows if row["unit"] == "requests"}
    assert sum(counts.values()) == 60
    assert all(counts[kind] > 0 for kind in ("plain", "cancelled", "wrong", "probe"))
