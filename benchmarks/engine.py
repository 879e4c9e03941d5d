"""Prefill, decode and start-up of the engine over batch x context, beside transformers and the machine's limits.

usage: python -m benchmarks.engine [--batches 1 8 32] [--contexts 128 1024] [--output 64] [--rounds 3] [--json auto]

Random bfloat16 weights of a named shape. Prefill is the time until the whole batch has its first token; decode is what
follows while every sequence runs. The limit of a decode step is reading the weights and every key and value once at the
measured rate; that of prefill, the products at the measured rate. Start-up is from exec to the first token.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks import grid, limits
from benchmarks.bench import Row, arguments, finish
from benchmarks.limits import Limits
from benchmarks.shapes import SHAPES, Shape, checkpoint
from benchmarks.sides import Program

GOAL = 3.0
"""Seconds to the first token, once a start has been cached."""
BITS = {"bfloat16": 16, "float32": 32}


def program(driver: str, shape: Shape, options: argparse.Namespace, capacity: int, **more: Any) -> Program:
    """A driver on this checkpoint, with room for so many tokens."""
    asked = {
        "dtype": options.dtype,
        "device": "cpu",
        "bits": BITS[options.dtype],
        "threads": options.threads,
        "capacity": capacity,
        # the last block of a sequence is hardly ever full
        "cache_bytes": int(shape.cache_bytes(capacity + 32 * max(options.batches), BITS[options.dtype])),
        "longest": max(options.contexts) + options.output,
        "sequences": max(options.batches),
        "cache": str(options.cache),
    }
    python = Path(more.pop("python", sys.executable))
    environment = {"OMP_NUM_THREADS": str(options.threads), **more.pop("environment", {})}
    return Program(driver, python, checkpoint(shape, options.cache), asked | more, environment)


def limited(row: Row, shape: Shape, best: Limits, cell: grid.Cell, options: argparse.Namespace, bits: float) -> Row:
    """The row with what the machine allows, the weights having so many bits."""
    weights = shape.weight_bytes(bits)
    if row.what["phase"] == "prefill":
        tokens = cell.batch * cell.context
        work = weights / tokens, shape.operations(1, cell.context / 2)
    else:
        context = cell.context + options.output / 2
        read = weights / cell.batch + shape.cache_bytes(context, BITS[options.dtype])
        work = read, shape.operations(1, context)
    return replace(row, work=work, limit=1 / best.seconds(*work))


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=3)
    grid.add_options(parser)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    shape, table = SHAPES[options.shape], grid.cells(options)
    best = limits.measure(getattr(torch, options.dtype), options.device, options.threads)
    capacity = {"quire": table[-1].tokens, "transformers": options.capacity}
    programs = {
        name: program(f"{name}_driver", shape, options, tokens, device=options.device)
        for name, tokens in capacity.items()
    }
    running = grid.started(programs)
    try:
        ready = grid.startups(running, shape)
        found = grid.speeds(running, shape, table, options)
    finally:
        grid.close(running)
    rows = [Row({"phase": "exec to first token"}, "s", ready.pop("quire"), ready, goal=GOAL)]
    for cell in table:
        what = {"batch": cell.batch, "context": cell.context}
        both = grid.rows(found[cell], "quire", ["transformers"], what)
        rows += [limited(row, shape, best, cell, options, BITS[options.dtype]) for row in both]
    card = torch.cuda.get_device_name() if options.device == "cuda" else None
    finish("engine", options, rows, card=card, limits=vars(best))


if __name__ == "__main__":
    main()
