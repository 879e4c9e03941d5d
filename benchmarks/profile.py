"""Where a step's time goes: the phases of a decoder, what they wait for, and what is outside the library.

usage: python -m benchmarks.profile [--weights bf16 int8 int4] [--batches 1 8 32] [--contexts 128 1024] [--rounds 3]
                                    [--json auto]

Batches of prompts are computed until each has its first token, and then some tokens more. A part's limit is the time in
which its bytes pass or its products are done at the measured rates, whichever is longer; int8 and int4 multiply bytes,
up to twice as fast as the bf16 products that this rate is of, so their share may pass 1. Phases are clocked by the
library itself, on the first thread of its team; of several prefills and of all decode steps of a cell the one of median
length is shown. `waiting` is the first thread's, for the others at the end of each phase; `outside` is all that is not
the library's step: the scheduler, the packing of inputs, the draw.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks import limits
from benchmarks.bench import Row, arguments, finish
from benchmarks.limits import Limits
from benchmarks.shapes import SHAPES, Shape, checkpoint, prompts

from quire_engine import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_kernels.decoder import spent
from quire_protocol import GenerateRequest, SamplingParams

PARTS = {
    "products": ("qkv", "output", "up", "down", "head"),
    "attention": ("attention",),
    "norms, rotary, stores": ("embed", "norm", "rotate", "activation"),
    "waiting": ("waiting",),
}
"""Phases of the library that are shown together."""
BITS = {"bf16": 16.0, "int8": 8.0, "int4": 4.5}
"""Of a weight; int4 has a scale of 16 bits for every 32."""
STEPS = 24
"""Decode steps of a round."""

Times = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """So many sequences that have, or get, so many tokens."""

    phase: str
    batch: int
    context: int

    def floors(self, shape: Shape, best: Limits, bits: float) -> Times:
        """Seconds that products and attention take at least; only the last of a prompt's tokens gets logits."""
        tokens = self.context if self.phase == "prefill" else 1
        seen = self.context / 2 if self.phase == "prefill" else self.context + STEPS / 2
        operations = self.batch * shape.operations(tokens, 0)
        without_logits = 2 * self.batch * (tokens - 1) * shape.vocabulary * shape.hidden
        pairs = self.batch * (shape.operations(tokens, seen) - shape.operations(tokens, 0))
        return {
            "products": best.seconds(shape.weight_bytes(bits), operations - without_logits),
            "attention": best.seconds(self.batch * shape.cache_bytes(seen), pairs),
        }


def step(engine: Engine) -> tuple[Times, set[object]]:
    """Seconds of one step by part, and who got a token."""
    before, began = spent(), time.perf_counter()
    emissions = engine.step()
    whole, after = time.perf_counter() - began, spent()
    taken = {part: sum(after[phase] - before[phase] for phase in phases) for part, phases in PARTS.items()}
    return taken | {"outside": whole - sum(taken.values())}, {emission.handle for emission in emissions}


def prefill(engine: Engine, batch: list[list[int]]) -> Times:
    """Seconds by part until every prompt has its first token."""
    params = SamplingParams(temperature=0, max_tokens=4 * STEPS, ignore_eos=True)
    for handle, ids in enumerate(batch):
        engine.add(Submission(handle, GenerateRequest(token_ids=ids, sampling_params=params)))
    whole: Times = {}
    started: set[object] = set()
    while len(started) < len(batch):
        taken, emitted = step(engine)
        whole = {part: whole.get(part, 0) + seconds for part, seconds in taken.items()}
        started |= emitted
    return whole


def typical(several: list[Times]) -> Times:
    """The one whose sum is the median."""
    return sorted(several, key=lambda taken: sum(taken.values()))[len(several) // 2]


def measure(engine: Engine, shape: Shape, batch: int, context: int, rounds: int) -> Iterator[tuple[Cell, Times]]:
    """A prefill of fresh prompts, and a step of one token for each."""
    prefills, decodes = [], []
    for turn in range(rounds):
        prefills.append(prefill(engine, prompts(shape, batch, context, turn)))
        decodes += [step(engine)[0] for _ in range(STEPS)]
        for handle in range(batch):
            engine.abort(handle)
    yield Cell("prefill", batch, context), typical(prefills)
    yield Cell("decode", batch, context), typical(decodes)


def rows(weights: str, cell: Cell, taken: Times, floors: Times) -> Iterator[Row]:
    """The whole, then its parts."""
    whole = sum(taken.values())
    what: dict[str, str | int] = {"phase": cell.phase, "weights": weights, "batch": cell.batch, "context": cell.context}
    yield Row({**what, "part": "all"}, "ms", 1e3 * whole, limit=1e3 * sum(floors.values()), notes={"of all": "100 %"})
    for part, seconds in taken.items():
        limit = 1e3 * floors[part] if part in floors else None
        yield Row(
            {**what, "part": part}, "ms", 1e3 * seconds, limit=limit, notes={"of all": f"{100 * seconds / whole:.0f} %"}
        )


def loaded(path: Path, weights: str, room: int) -> Engine:
    """The engine with weights of a kind, and room for so many bytes of keys and values."""
    config = EngineConfig(
        model=str(path),
        skip_tokenizer_init=True,
        kv_cache_memory_bytes=room,
        quantization=None if weights == "bf16" else weights,  # type: ignore[arg-type]
    )
    return Engine.load(config)


def profile(options: argparse.Namespace) -> Iterator[Row]:
    """All cells, one kind of weights after the other."""
    shape = SHAPES[options.shape]
    path = checkpoint(shape, options.cache)
    best = limits.measure(torch.bfloat16, "cpu", options.threads)
    longest = max(options.batches) * (max(options.contexts) + 4 * STEPS)
    for weights in options.weights:
        engine = loaded(path, weights, int(1.2 * shape.cache_bytes(longest)))
        for context in options.contexts:
            for batch in options.batches:
                for cell, taken in measure(engine, shape, batch, context, options.rounds):
                    yield from rows(weights, cell, taken, cell.floors(shape, best, BITS[weights]))
        engine.close()


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--weights", nargs="+", choices=BITS, default=["bf16"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024], help="tokens of a prompt")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    finish("profile", options, list(profile(options)))


if __name__ == "__main__":
    main()
