"""Prefill, decode and start-up of several sides over batch x context, by turns. It knows no peer by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.bench import Row, median, turns
from benchmarks.shapes import SHAPES, Shape, prompts
from benchmarks.sides import Program, Side, Unavailable

Answer: TypeAlias = dict[str, Any] | None

WARMING = 16
"""Tokens of a prompt that only warms up."""


@dataclass(frozen=True, order=True)
class Cell:
    """So many prompts of so many tokens; the order is that of memory needed."""

    tokens: int
    batch: int
    context: int


@dataclass(frozen=True)
class Speed:
    """Tokens a second."""

    prefill: float
    decode: float


@dataclass
class Running:
    """A side, and how much it can hold."""

    side: Side
    capacity: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The grid's own options."""
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024], help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--capacity", type=int, default=9216, help="tokens held by sides measured on small cells only")


def cells(options: argparse.Namespace) -> list[Cell]:
    """The grid, smallest first."""
    shapes = [(batch, context) for batch in options.batches for context in options.contexts]
    return sorted(Cell(batch * (context + options.output), batch, context) for batch, context in shapes)


def started(programs: Mapping[str, Program]) -> dict[str, Running]:
    """The sides that can be measured; why another cannot is printed."""
    running = {}
    for name, program in programs.items():
        try:
            running[name] = Running(Side(program), program.options["capacity"])
        except Unavailable as error:
            print(f"{name}: left out: {error}", flush=True)
    return running


def startups(running: dict[str, Running], shape: Shape) -> dict[str, float]:
    """Seconds from exec to the first token of each."""
    ready = {name: each.side.ready for name, each in running.items()}
    first = {name: _ask(running, name, prompts(shape, 1, WARMING, 98), 2) for name in ready}
    return {name: ready[name] + answer["first"] for name, answer in first.items() if answer}


def speeds(
    running: dict[str, Running], shape: Shape, grid: list[Cell], options: argparse.Namespace
) -> dict[Cell, dict[str, Speed]]:
    """Medians by cell and side. A side gives its memory back once no cell is left that it can hold."""
    found = {}
    for cell in grid:
        _retire(running, cell)
        for name in list(running):
            _ask(running, name, prompts(shape, cell.batch, WARMING, 99), 4)
        found[cell] = _cell(running, shape, cell, options)
        told = {name: f"{speed.prefill:.0f} / {speed.decode:.1f}" for name, speed in found[cell].items()}
        print(f"{cell.batch} x {cell.context}, prefill / decode tok/s: {told}", flush=True)
    return found


def close(running: dict[str, Running]) -> None:
    """Let every side end."""
    for each in running.values():
        each.side.close()


def rows(found: Mapping[str, Speed], ours: str, peers: list[str], what: Mapping[str, str | int]) -> list[Row]:
    """Prefill and decode of one cell: ours against such peers as were measured."""

    def row(phase: str) -> Row:
        rate = {name: getattr(speed, phase) for name, speed in found.items()}
        theirs = {name: rate[name] for name in peers if name in rate}
        return Row({"phase": phase, **what}, "tok/s", ours=rate.get(ours), peers=theirs)

    return [row("prefill"), row("decode")]


def _cell(running: dict[str, Running], shape: Shape, cell: Cell, options: argparse.Namespace) -> dict[str, Speed]:
    def asker(name: str) -> Callable[[int], Answer]:
        return lambda turn: _ask(running, name, prompts(shape, cell.batch, cell.context, turn), options.output)

    answers = turns(options.rounds, {name: asker(name) for name in running})
    return {
        name: Speed(
            prefill=cell.batch * cell.context / median(answer["first"] for answer in several if answer),
            decode=median(answer["tokens"] / answer["seconds"] for answer in several if answer),
        )
        for name, several in answers.items()
        if all(several)
    }


def _ask(running: dict[str, Running], name: str, batch: list[list[int]], output: int) -> Answer:
    """A side's answer; None if it ended, now or before, which is printed and ends no run."""
    if name not in running:
        return None
    try:
        return running[name].side.ask(prompts=batch, output=output)
    except Unavailable as error:
        print(f"{name}: left out from here: {error}", flush=True)
        running.pop(name).side.close()
        return None


def _retire(running: dict[str, Running], cell: Cell) -> None:
    for name, each in list(running.items()):
        if each.capacity < cell.tokens:
            running.pop(name).side.close()
