"""Write a run's figures into docs/demo-model.md, between its marks: settings, probes, picture, scores.

usage: python -m tools.demo_model.page [FOLDER]

FOLDER (build/demo-model) has the log of a training, and scores.json if `evaluate --json` wrote it there. Nothing is
written that is not in these files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tools.demo_model.log import Log
from tools.demo_model.train import FOLDER

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "demo-model.md"
PICTURE = ROOT / "docs" / "demo-model.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def figures(folder: Path) -> str:
    """Markdown about the run in this folder. ValueError if there is none."""
    lines = list(Log(folder / "log.jsonl").lines())
    steps = [line for line in lines if line["kind"] == "step"]
    if not steps:
        raise ValueError(f"{folder} has no log of a training: run `nox -s demo-model` first, or name its folder.")
    settings = next(line for line in lines if line["kind"] == "settings")
    probes = [line for line in lines if line["kind"] == "probe"]
    scores = folder / "scores.json"
    parts = [_run(settings, steps), _probes(probes)]
    if scores.is_file():
        parts.append(_scores(json.loads(scores.read_text(encoding="utf-8"))))
    return "\n".join(filter(None, parts))


def filled(page: str, text: str) -> str:
    """The page with this text between its marks. ValueError if it has none."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no marks {BEGIN} and {END} to write between.")
    return f"{head}{BEGIN}\n{text}{END}{tail}"


def _run(settings: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    last, tail = steps[-1], steps[-100:]
    seconds, tokens = last["seconds"], sum(each["tokens"] for each in steps)
    shape = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in settings["shape"].items())
    loss = sum(each["loss"] for each in tail) / len(tail)
    rows = (
        ("parameters", f"{settings['parameters']:,} ({shape})"),
        ("steps", f"{last['step']:,}"),
        ("tokens", f"{tokens:,}, {sum(each['spoken'] for each in steps):,} of them learned"),
        ("time", f"{seconds / 60:.0f} minutes, {tokens / max(seconds, 1e-9):,.0f} tokens a second"),
        ("on", f"{settings['device']}, {settings['threads']} threads, {settings['dtype']}, torch {settings['torch']}"),
        ("loss", f"{loss:.4f} nats a spoken token, mean of the last {len(tail)} steps"),
    )  # fmt: skip
    return "\n".join(["| the run | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


def _probes(probes: list[dict[str, Any]]) -> str:
    """By task, at the start, in the middle and at the end of the training."""
    if not probes:
        return ""
    shown = [probes[place] for place in sorted({0, len(probes) // 2, len(probes) - 1})]
    head = " | ".join(f"step {each['step']:,}" for each in shown)
    rows = [
        f"| {task} | " + " | ".join(f"{each['exact'].get(task, 0):.0%}" for each in shown) + " |"
        for task in shown[-1]["exact"]
    ]
    return "\n".join([f"| exact in training | {head} |", "|---" * (len(shown) + 1) + "|", *rows, ""])


def _scores(scores: list[dict[str, Any]]) -> str:
    rows = [
        f"| {one['task']} | {one['asked']} | {one['share']:.0%} | "
        f"{'' if one['goal'] is None else format(one['goal'], '.0%')} | {one['verdict']} |"
        for one in scores
    ]
    return "\n".join(["| through the server | asked | exact | goal | |", "|---|---|---|---|---|", *rows, ""])


def draw(folder: Path, target: Path) -> None:
    """The loss over the tokens seen, step by step and smoothed. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "quire"  # equal logs draw equal files
    from matplotlib import pyplot

    steps = [line for line in Log(folder / "log.jsonl").lines() if line["kind"] == "step"]
    tokens, seen, smooth, mean = 0, [], [], steps[0]["loss"]
    for each in steps:
        tokens += each["tokens"]
        mean += (each["loss"] - mean) * 0.03
        seen.append(tokens / 1e6)
        smooth.append(mean)
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.plot(seen, [each["loss"] for each in steps], linewidth=0.4, alpha=0.4)
    axes.plot(seen, smooth, linewidth=1.6)
    axes.set(xlabel="million tokens", ylabel="nats a spoken token", yscale="log")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Write page and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    text = figures(folder)
    draw(folder, PICTURE)
    picture = f"\n![Loss over the tokens seen]({PICTURE.name})\n"
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), f"{text}{picture}"), encoding="utf-8")


if __name__ == "__main__":
    main()
