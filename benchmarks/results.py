"""What every benchmark shares: the machine's description, a printed table, a result file."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Name and size of this machine, from what the system itself says."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    flags = named.get("flags", "").split()
    return {
        "processor": named.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if name in flags],
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a plain table; numbers to three digits, what is missing as a dash."""
    heads = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value: object) -> str:
        return "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)

    lines = [heads, *([cell(row.get(head)) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def write(target: str | None, name: str, content: dict[str, Any]) -> None:
    """Write a result file when asked: a path, or `auto` for benchmarks/results/<date>-<name>.json."""
    if target is None:
        return
    auto = Path(__file__).parent / "results" / f"{datetime.date.today().isoformat()}-{name}.json"
    path = auto if target == "auto" else Path(target)
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")
