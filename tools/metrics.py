"""Write docs/reference/metrics.md, the page of all metrics: `python -m tools.metrics`."""

from __future__ import annotations

from pathlib import Path

from quire_server.metrics import ENGINE_METRICS, HTTP_METRICS, NOT_HERE, Entry

PAGE = Path(__file__).parents[1] / "docs/reference/metrics.md"

OPENING = """\
# Metrics

Written by `python -m tools.metrics` from the table that the server reads; a test keeps it current.

`GET /metrics` gives these to Prometheus. Names, labels and bounds are those of vLLM where it has the metric: its
dashboards, alerts and autoscalers read this server as they are. Bounds were added below its smallest ones. What is only
here begins with `quire:`. Where a metric says *choice*, a request with `n` answers counts `n` times. Counters of the
engine go on where its process is started again.
"""


def page() -> str:
    """The page's text."""
    engine = "Each of these has the labels `model_name` and `engine`, and its own."
    missing = "\n".join(f"- {name}: {why}." for name, why in NOT_HERE.items())
    return "\n".join(
        (
            OPENING,
            f"## The engine and its requests\n\n{engine}\n\n{table(ENGINE_METRICS)}\n",
            f"## HTTP\n\n{table(HTTP_METRICS)}\n",
            "Beside them stand `process_*` and `python_*` of the server's own process; of several "
            "(`--api-server-count`), added up.\n",
            f"## What vLLM has and is not here\n\n{missing}\n",
        )
    )


def table(entries: tuple[Entry, ...]) -> str:
    """Metrics as rows."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.about} |"
        for each in entries
    ]
    return "\n".join(("| metric | kind | labels | what it says |", "|---|---|---|---|", *rows))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
