"""What sampling costs: a decode step in which every request asks for much, beside one in which none asks for anything.

usage: python -m benchmarks.sampling [--shape 0.6b] [--batch 32] [--prompt 128] [--rounds 60] [--json auto]

The engine is loaded twice: for plain greedy requests, and for requests with all three penalties, a logit bias, top-p
and five log-probabilities. The two take single steps by turns, so that whatever else the machine does falls on both;
the last row is the median of the quotients of neighbouring steps.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.shapes import SHAPES, checkpoint, prompts

from quire_engine import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams

GOAL = 1.15
"""Times a greedy step."""

ASKS = {
    "greedy": {"temperature": 0},
    "everything": {
        "temperature": 0.8,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {token: (-1) ** token * 2.0 for token in range(100, 164)},
        "logprobs": 5,
    },
}
"""What each request asks for."""


def prefilled(path: Path, batch: list[list[int]], asked: dict[str, object]) -> Engine:
    """An engine in which every request has its first token, and goes on."""
    config = EngineConfig(
        model=str(path), skip_tokenizer_init=True, max_num_batched_tokens=2048, kv_cache_memory_bytes=2**31
    )
    engine = Engine.load(config)
    params = SamplingParams(**asked, max_tokens=1024, ignore_eos=True)
    for handle, ids in enumerate(batch):
        engine.add(Submission(handle, GenerateRequest(token_ids=ids, sampling_params=params)))
    started: set[int] = set()
    while len(started) < len(batch):
        started |= {emission.handle for emission in engine.step()}
    for _ in range(3):
        engine.step()
    return engine


def seconds_of(engine: Engine) -> float:
    """How long one step takes."""
    began = time.perf_counter()
    engine.step()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, rounds=60)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    path, ids = checkpoint(shape, options.cache), prompts(shape, options.batch, options.prompt, 0)
    engines = {what: prefilled(path, ids, asked) for what, asked in ASKS.items()}
    steps = turns(options.rounds, {what: lambda _, e=engine: seconds_of(e) for what, engine in engines.items()})
    rows = [Row({"step": what, "batch": options.batch}, "ms", 1000 * median(steps[what])) for what in ASKS]
    pairs = [much / plain for much, plain in zip(steps["everything"], steps["greedy"], strict=True)]
    rows.append(Row({"step": "everything / greedy", "batch": options.batch}, "times", median(pairs), goal=GOAL))
    finish("sampling", options, rows)


if __name__ == "__main__":
    main()
