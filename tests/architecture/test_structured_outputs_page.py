"""docs/structured-outputs.md names every keyword, format and limit as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quire_engine.config import EngineConfig
from quire_engine.text.grammar import conjunctions, json_schema, patterns, string_formats

PAGE = (Path(__file__).parents[2] / "docs/structured-outputs.md").read_text(encoding="utf-8")


def row(keyword: str) -> str:
    return next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{keyword}`" in line.split("|")[1])


@pytest.mark.parametrize("keyword", sorted(json_schema.REFUSED.keys() - {"propertyNames"}))
def test_refused_keywords_are_called_refused(keyword):
    assert row(keyword).split("|")[2].strip().startswith("refused")


@pytest.mark.parametrize("name", sorted(string_formats.ENFORCED | set(string_formats.PATTERNS)))
def test_formats_that_are_enforced_are_named(name):
    assert f"`{name}`" in row("format")


def test_limits_are_those_of_the_code():
    asked = EngineConfig()
    limits = " ".join(re.findall(r"Limits: (.*?)\n\n", PAGE, re.DOTALL)).replace("\n", " ")
    assert re.findall(r"\d+", limits) == [
        str(limit)
        for limit in (
            json_schema.MAX_DEPTH,
            json_schema.MAX_LEVELS,
            conjunctions.MAX_PATTERNS,
            conjunctions.MAX_KEY_PATTERNS,
            json_schema.MAX_DIVISOR,
            patterns.MAX_RULES,
            asked.max_grammar_size // 1_000_000,
            int(asked.max_grammar_seconds),
            asked.max_cached_grammars,
        )
    ]
