"""The page says what the run's files say, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools.demo_model.log import Log
from tools.demo_model.page import BEGIN, END, PAGE, figures, filled


def log(folder: Path) -> Log:
    own = Log(folder / "log.jsonl")
    own.write(
        step=0,
        kind="settings",
        shape={"hidden": 8},
        parameters=1234,
        device="cpu",
        threads=2,
        dtype="bfloat16",
        torch="2",
    )
    for step in (1, 2):
        own.write(step=step, kind="step", seconds=30.0 * step, tokens=600, spoken=150, loss=2.0 / step)
    own.write(step=2, kind="probe", exact={"copy": 0.5})
    return own


def test_figures_are_those_of_the_log(tmp_path: Path) -> None:
    log(tmp_path)
    text = figures(tmp_path)
    assert "| tokens | 1,200, 300 of them learned |" in text
    assert "| time | 1 minutes, 20 tokens a second |" in text
    assert "| loss | 1.5000 nats" in text
    assert "| copy | 50% |" in text
    assert "through the server" not in text


def test_scores_are_told_once_there_are_some(tmp_path: Path) -> None:
    log(tmp_path)
    score = {"task": "copy", "asked": 50, "share": 0.92, "goal": 0.9, "verdict": "reached"}
    (tmp_path / "scores.json").write_text(json.dumps([score]))
    assert "| copy | 50 | 92% | 90% | reached |" in figures(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `nox -s demo-model` first"):
        figures(tmp_path)


def test_the_page_has_a_place_for_them() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"{BEGIN}\nnew\n{END}" in filled(page, "new\n")
    assert filled(filled(page, "new\n"), "newer\n") == filled(page, "newer\n")


def test_a_page_without_one_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        filled("# Page", "new")
