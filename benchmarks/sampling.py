"""What sampling costs: a decode step in which every request asks for much, beside one in which none asks for anything.

usage: python benchmarks/sampling.py [--batch 32] [--prompt 128] [--steps 60] [--threads 2]

The checkpoint is that of benchmarks/engine.py (Qwen3-0.6B's shape, vocabulary 8,192), loaded twice: for plain greedy
requests, and for requests with all three penalties, a logit bias, top-p and five log-probabilities. The two take single
steps by turns, so that whatever else the machine does falls on both; the ratio is the median over pairs of steps. The
limit is 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from engine import SHAPE, checkpoint, prompts
from quire_engine import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams
from results import machine, table, write

LIMIT = 1.15

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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60, help="pairs of steps, at most 1,000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        path, ids = checkpoint(Path(scratch)), prompts(options.batch, options.prompt, 0)
        engines = {what: prefilled(path, ids, asked) for what, asked in ASKS.items()}
        pairs = [{what: seconds_of(engine) for what, engine in engines.items()} for _ in range(options.steps)]
    ratio = statistics.median(pair["everything"] / pair["greedy"] for pair in pairs)
    rows = [
        {
            "what": what,
            "batch": options.batch,
            "vocabulary": SHAPE["vocab_size"],
            "step (ms)": 1000 * statistics.median(pair[what] for pair in pairs),
        }
        for what in ASKS
    ]
    print(table(rows))
    print(f"everything / greedy: {ratio:.3f} (limit {LIMIT})")
    write(options.json, "sampling", {"machine": machine(), "options": vars(options), "rows": rows, "ratio": ratio})


if __name__ == "__main__":
    main()
