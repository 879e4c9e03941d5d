"""docs/benchmarks.md and its pictures, from the result files: the latest of each benchmark on each machine.

usage: python -m benchmarks.page [--check]

The page is text made from figures, so a test can tell whether it is current; a picture carries the digest of the
figures that it was drawn from. Only drawing needs matplotlib.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import RESULTS, Row, cell, columns, read

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"
ORDER = (
    *("compare", "engine", "serve", "front_end", "structured", "startup", "protocol"),
    *("kernels", "profile", "sampling", "beams", "soak", "overload", "fairness", "recovery", "limits"),
)
"""Benchmarks as a reader meets them; kernels-bfloat16 and its like stand with kernels."""
PICTURED = ("compare", "engine", "serve", "kernels")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
COLOURS = ("#1b6ca8", "#d08c2e", "#5b9a68", "#a5526b", "#7a6bb0", "#6b7780")

HEAD = """\
# Benchmarks

Made by `python -m benchmarks.page` from the files in `benchmarks/results`; do not edit. Sides of a comparison were
measured in one run, by turns, and figures are medians. What is counted per second is better when it is more, all else
when it is less. *ratio*: how many times better ours is than the best peer. *limit*: what the machine allows, measured
in the same run. *share*: how much of the limit ours reaches. *goal*: what the project asks of itself.

`nox -s bench` measures all of it; `python -m benchmarks.NAME --help` tells what one script does.
Processors shared with others are noisy: there, trust ratios, not absolute figures.
"""


@dataclass(frozen=True)
class Result:
    """A result file."""

    benchmark: str
    command: str
    machine: dict[str, Any]
    date: str
    options: dict[str, Any]
    rows: list[Row]
    limits: dict[str, float] | None = None
    """Bytes read and operations done a second at best, where they were measured."""

    @property
    def script(self) -> str:
        """The name of the script: kernels of kernels-bfloat16."""
        return self.command.rpartition(".")[2]

    @property
    def picture(self) -> Path | None:
        """Where its picture lies, if it has one."""
        if self.script not in PICTURED:
            return None
        return DOCS / "benchmarks" / f"{self.machine['name']}-{self.benchmark}.svg"

    @property
    def digest(self) -> str:
        """Of the figures."""
        figures = json.dumps([self.limits, *map(vars, self.rows)], sort_keys=True)
        return hashlib.sha256(figures.encode()).hexdigest()


def results(folder: Path = RESULTS) -> list[Result]:
    """The latest of each benchmark on each machine, in the page's order."""
    latest = {}
    for path in sorted(folder.glob("*.json")):  # names begin with the date
        content = read(path)
        result = Result(**{name: content.get(name) for name in Result.__dataclass_fields__})
        latest[result.machine["name"], result.benchmark] = result
    return sorted(latest.values(), key=lambda each: (each.machine["name"], ORDER.index(each.script), each.benchmark))


def text(found: list[Result]) -> str:
    """The page."""
    parts, machine = [HEAD], ""
    for result in found:
        if result.machine["name"] != machine:
            machine = result.machine["name"]
            parts.append(f"## {described(result.machine)}\n")
        parts.append(section(result))
    return "\n".join(parts)


def described(machine: dict[str, Any]) -> str:
    """A machine in words."""
    cores = f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])})"
    return f"{machine['card']}, {cores}" if "card" in machine else cores


def section(result: Result) -> str:
    """What was asked, how, and what came out."""
    purpose = ast.get_docstring(ast.parse((HERE / f"{result.script}.py").read_text()))
    assert purpose is not None
    lines = [f"### {result.benchmark}", "", purpose.splitlines()[0], ""]
    if result.picture:
        lines += [f"![{result.benchmark}]({result.picture.relative_to(DOCS).as_posix()})", ""]
    heads = columns(result.rows)
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell(row.cells().get(head)) for head in heads)} |" for row in result.rows]
    words = " ".join([result.command, *flags(result.options)])
    return "\n".join([*lines, "", f"{result.date}, Python {result.machine['python']}: `{words}`", ""])


def flags(options: dict[str, Any]) -> Iterator[str]:
    """The options as one would type them."""
    for name, value in options.items():
        several = map(str, value if isinstance(value, list) else [value])
        yield " ".join([f"--{name.replace('_', '-')}", *(f'"{each}"' if " " in each else each for each in several)])


def stale(found: list[Result]) -> list[str]:
    """What is not as the result files say."""
    wrong = [] if PAGE.exists() and PAGE.read_text() == text(found) else [f"{PAGE.name} is not what its results say"]
    for result in found:
        picture = result.picture
        if picture and not (picture.exists() and result.digest in picture.read_text()):
            wrong.append(f"{picture.name} was not drawn from its results")
    return wrong


def draw(result: Result, path: Path) -> None:
    """Bars of ours and the peers' in each row, with the limit; below, all of ours under the machine's roof."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "quire", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    panels, points = split(result.rows), [row for row in result.rows if row.work and row.ours and row.work[1]]
    count = len(panels) + bool(points)
    figure, axes = pyplot.subplots(count, 1, figsize=(9, 2.6 * count), squeeze=False)
    for (title, rows), (axis,) in zip(panels.items(), axes, strict=False):
        panel(axis, title, rows)
    if points and result.limits:
        roofline(axes[-1][0], points, result.limits)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Description": result.digest})
    pyplot.close(figure)


def split(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that share an axis: the same unit, and the same first column unless that numbers them."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        words = [value for value in row.what.values() if isinstance(value, str)]
        title = " ".join([*words[:-1], words[-1] if "shape" not in row.what else ""]).strip()
        panels.setdefault(f"{title}, {row.unit}", []).append(row)
    return panels


def panel(axis: Any, title: str, rows: list[Row]) -> None:
    """One panel."""
    sides = ["ours", *dict.fromkeys(peer for row in rows for peer in row.peers)]
    width = 0.8 / len(sides)
    for number, side in enumerate(sides):
        heights = [row.cells().get(side) or 0 for row in rows]
        places = [place + (number - (len(sides) - 1) / 2) * width for place in range(len(rows))]
        axis.bar(places, heights, width * 0.92, label=side, color=COLOURS[number % len(COLOURS)])
    for place, row in enumerate(rows):
        if row.limit:
            axis.hlines(row.limit, place - 0.45, place + 0.45, color="black", label=None if place else "limit")
    axis.set_xticks(range(len(rows)), [label(row) for row in rows], fontsize=7)
    axis.set_title(title, fontsize=9, loc="left")
    if title.endswith("us"):
        axis.set_yscale("log")
    axis.legend(fontsize=7, ncols=len(sides) + 1, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))
    axis.spines[["top", "right"]].set_visible(False)


def roofline(axis: Any, rows: list[Row], limits: dict[str, float]) -> None:
    """Operations a second over operations per byte (Williams et al. 2009): ours, and the best peer of each row."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(next(iter(row.what.values())), []).append(row)
    for number, (name, several) in enumerate(groups.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [intensity(row) for row in several]
        axis.plot(places, [attained(row, row.ours) for row in several], "o", color=colour, label=f"{name}, ours")
        peers = [(intensity(row), attained(row, row.ours / row.ratio)) for row in several if row.ratio]
        if peers:
            axis.plot(*zip(*peers, strict=True), "o", color=colour, fillstyle="none", label=f"{name}, best peer")
    ends = sorted((min(map(intensity, rows)) / 2, limits["products"] / limits["read"], max(map(intensity, rows)) * 2))
    axis.plot(ends, [min(end * limits["read"], limits["products"]) for end in ends], color="black", label="limit")
    axis.set(xscale="log", yscale="log", xlabel="operations per byte")
    axis.set_title("operations a second", fontsize=9, loc="left")
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def intensity(row: Row) -> float:
    """Operations per byte."""
    assert row.work is not None
    return row.work[1] / row.work[0]


def attained(row: Row, figure: float | None) -> float:
    """Operations a second, of a figure in the row's unit."""
    assert row.work is not None
    assert figure
    return row.work[1] * figure if row.unit == "tok/s" else row.work[1] / (figure * SECONDS[row.unit])


def label(row: Row) -> str:
    """What tells a row from the others of its panel."""
    named = [f"{name} {value}" for name, value in row.what.items() if not isinstance(value, str)]
    return "\n".join(named) or str(row.what.get("shape", "")).replace(" at ", "\nat ")


def main() -> None:
    """Write the page and draw what has changed, or tell what is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only tell whether the page is current")
    found = results()
    if parser.parse_args().check:
        raise SystemExit("\n".join(stale(found)) or None)
    for result in found:
        if result.picture:
            draw(result, result.picture)
    PAGE.write_text(text(found))
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
