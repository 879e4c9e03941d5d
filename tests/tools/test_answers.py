"""Answers of a model with random weights, judged: each is whole and satisfies its schema, or counts against us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tools.answers import Case, drawn, main, of_suite

from quire_engine import CompletionOutput

AGE = Case("age", {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})


def answer(text: str, finish_reason: Any = "stop", error: str | None = None) -> CompletionOutput:
    return CompletionOutput(0, text, [], None, None, finish_reason, None, error)


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        (answer('{"age": 3}'), "valid"),
        (answer('{"age": 3}', "length"), "valid"),
        (answer('{"age": "3"}'), "invalid"),
        (answer('{"age": '), "invalid"),
        (answer('{"age": ', "length"), "truncated"),
        (answer("", "error", "The answer may have 3 tokens, but … it has at least 9"), "short"),
        (answer("", "error", "The step failed"), "failed"),
    ],
)
def test_an_answer_is_judged_by_its_text_and_its_end(given: CompletionOutput, judged: str) -> None:
    assert AGE.judged(given) == judged


def test_of_a_suite_each_schema_comes_once(tmp_path: Path) -> None:
    for draft in ("draft7", "draft2020-12"):
        (tmp_path / draft).mkdir()
        groups = [{"schema": {"type": "null"}}, {"schema": True}, {"schema": {"title": draft}}]
        (tmp_path / draft / "type.json").write_text(json.dumps(groups))
    assert [case.name for case in of_suite(tmp_path)] == ["draft7/type 0", "draft7/type 2", "draft2020-12/type 2"]


def test_random_schemas_are_the_same_ones_each_time() -> None:
    assert [case.schema for case in drawn(5)] == [case.schema for case in drawn(5)]


def test_answers_are_asked_for_and_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["answers", "--schemas", "6", "--seeds", "1", "--lengths", "40", "-v"])
    assert main() == 0
    told = capsys.readouterr().out
    assert "6 schemas: " in told
    assert "0 truncated, 0 invalid, 0 failed" in told
