"""The page of benchmarks says what the result files say, and no result file says where it was made."""

from __future__ import annotations

import pytest
from benchmarks import page
from benchmarks.bench import RESULTS

FILES = sorted(RESULTS.glob("*.json"))


def test_page_and_pictures_are_current() -> None:
    assert page.stale(page.results()) == [], "run python -m benchmarks.page"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_result_is_named_after_its_date_machine_and_benchmark_and_holds_no_path(file) -> None:  # type: ignore[no-untyped-def]
    content = page.read(file)
    assert file.stem == f"{content['date']}-{content['machine']['name']}-{content['benchmark']}"
    assert not any(str(value).startswith("/") for value in content["options"].values())
