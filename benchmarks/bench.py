"""What every benchmark shares: options, turns that interleave, rows and their table, the result file.

It knows no model and no engine: shapes.py does the one, drivers.py and servers.py the other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
CACHE = Path.home() / ".cache" / "quire-benchmarks"
"""Where checkpoints and peers' environments are kept, unless an option says otherwise."""
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Row:
    """One figure: ours, the peers' measured in the same run, what the machine allows, what we ask of ourselves."""

    what: Mapping[str, str | int]
    """What was measured: the first columns."""
    unit: str
    """Whatever is counted per second is better when it is more; everything else when it is less."""
    ours: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    """What no program can better on this machine."""
    goal: float | None = None
    """What the project asks of itself."""
    notes: Mapping[str, str] = field(default_factory=dict)
    work: tuple[float, float] | None = None
    """Bytes that must be read or written and operations that must be done: for one token of a rate, else for all."""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the best peer."""
        better = max if self.unit.endswith("/s") else min
        return self._times(better(self.peers.values())) if self.peers else None

    @property
    def share(self) -> float | None:
        """How much of the limit ours reaches: 1 is all of it."""
        return self._times(self.limit)

    def cells(self) -> dict[str, Any]:
        """The row of a table, by column."""
        figures = {"ours": self.ours, **self.peers, "ratio": self.ratio, "limit": self.limit, "share": self.share}
        told = {name: value for name, value in (figures | {"goal": self.goal}).items() if value is not None}
        return {**self.what, "unit": self.unit, **told, **self.notes}

    def _times(self, other: float | None) -> float | None:
        if not self.ours or not other:
            return None
        return self.ours / other if self.unit.endswith("/s") else other / self.ours


def columns(rows: list[Row]) -> list[str]:
    """The heads of all rows: what was measured, the figures, the verdicts, the notes; only those that some row has."""
    heads = [head for row in rows for head in row.what]
    heads += ["unit", "ours", *(peer for row in rows for peer in row.peers), "ratio", "limit", "share", "goal"]
    heads += [head for row in rows for head in row.notes]
    told = {head for row in rows for head in row.cells()}
    return [head for head in dict.fromkeys(heads) if head in told]


def cell(value: object) -> str:
    """Three digits of a number; what is missing as a dash."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """The rows as a plain table."""
    heads = columns(rows)
    lines = [heads, *([cell(row.cells().get(head)) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def arguments(doc: str, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have. Options that are or hold paths never reach a result file."""
    parser = argparse.ArgumentParser(
        description=doc.split("\n\nusage:")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=cores(), help="threads of each side (all cores)")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"times each side is measured ({rounds})")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of checkpoints and environments")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result; auto for benchmarks/results")
    return parser


def turns(rounds: int, sides: Mapping[str, Callable[[int], T]]) -> dict[str, list[T]]:
    """Ask every side once a round, so that whatever else the machine does falls on all; each is told the round."""
    taken: dict[str, list[T]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side, run in sides.items():
            taken[side].append(run(turn))
    return taken


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return float(statistics.median(values))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(card: str | None = None) -> dict[str, Any]:
    """Name and size of this machine, from what the system itself says; `card` is the accelerator that was measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
    flags = facts.get("flags", "").split()
    processor = facts.get("model name", platform.processor() or platform.machine())
    name = card or f"{processor} x{cores()}"
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "processor": processor,
        "cores": cores(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        **({"card": card} if card else {}),
        "python": platform.python_version(),
    }


def finish(name: str, options: argparse.Namespace, rows: list[Row], *, card: str | None = None, **more: Any) -> None:
    """Print the table; write the result file if one was asked for."""
    print(table(rows))
    if options.json is None:
        return
    host, date = machine(card), datetime.date.today().isoformat()
    path = RESULTS / f"{date}-{host['name']}-{name}.json" if str(options.json) == "auto" else options.json
    asked = {key: value for key, value in vars(options).items() if value not in (None, []) and not _has_path(value)}
    command = f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    content = {"benchmark": name, "command": command, "machine": host, "date": date, "options": asked, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "rows": [_plain(row) for row in rows]}, indent=2) + "\n")
    print(f"written to {path}")


def read(path: Path) -> dict[str, Any]:
    """A result file, its rows as rows."""
    content: dict[str, Any] = json.loads(path.read_text())
    return {**content, "rows": [Row(**row) for row in content["rows"]]}


def _has_path(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, list | tuple) and any(map(_has_path, value)))


def _plain(row: Row) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if value not in (None, {})}
