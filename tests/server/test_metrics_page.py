"""docs/reference/metrics.md says what is true today."""

from tools.metrics import PAGE, page


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tools.metrics"
