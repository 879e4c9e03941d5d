"""The page of formats has every format, with all of its names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quire_engine.text.formats.reasoning import REASONING_FORMATS
from quire_engine.text.formats.tools import TOOL_FORMATS

PAGE = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, set[str]]]:
    """The names in a section's table: the format's own, and its others."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [(first.strip("| `"), set(re.findall(r"`([^`]+)`", others))) for first, others, *_ in cells]


@pytest.mark.parametrize(("heading", "table"), [("Calls", TOOL_FORMATS), ("Reasoning", REASONING_FORMATS)])
def test_the_page_has_every_format_with_all_of_its_names(heading, table):
    assert dict(rows(heading)) == {known.name: {*known.aliases} for known in table}
