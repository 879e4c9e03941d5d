"""What sampling costs: a decode step in which every request asks for much, beside one in which none asks for anything.

usage: python benchmarks/sampling.py [--batch 32] [--prompt 128] [--output 48] [--rounds 5] [--threads 2]

The checkpoint is that of benchmarks/engine.py (Qwen3-0.6B's shape, vocabulary 8,192). Rounds alternate plain greedy
requests and requests with all three penalties, a logit bias, top-p and five log-probabilities; the ratio is the median
over rounds. The limit is 1.15.
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
"""What each request of a round asks for."""


def decode(engine: Engine, batch: list[list[int]], output: int, asked: dict[str, object]) -> float:
    """Seconds of one decode step, at the median over the steps in which every request has begun and none has ended."""
    params = SamplingParams(**asked, max_tokens=output, ignore_eos=True)
    for handle, ids in enumerate(batch):
        engine.add(Submission(handle, GenerateRequest(token_ids=ids, sampling_params=params)))
    started: set[int] = set()
    while len(started) < len(batch):
        started |= {emission.handle for emission in engine.step()}
    steps = []
    while engine.has_work:
        began = time.perf_counter()
        engine.step()
        steps.append(time.perf_counter() - began)
    return statistics.median(steps[: output - 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--output", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        path = checkpoint(Path(scratch))
        engine = Engine.load(EngineConfig(model=str(path), skip_tokenizer_init=True, max_num_batched_tokens=2048))
        ids = prompts(options.batch, options.prompt, 0)  # always the same: computed once, then in the prefix cache
        for asked in ASKS.values():
            decode(engine, ids, 4, asked)
        rounds = []
        for _ in range(options.rounds):
            rounds.append({what: decode(engine, ids, options.output, asked) for what, asked in ASKS.items()})
            print(rounds[-1], flush=True)
    ratio = statistics.median(each["everything"] / each["greedy"] for each in rounds)
    rows = [
        {
            "what": what,
            "batch": options.batch,
            "step (ms)": 1000 * statistics.median(each[what] for each in rounds),
            "vocabulary": SHAPE["vocab_size"],
        }
        for what in ASKS
    ]
    print(table(rows))
    print(f"everything / greedy: {ratio:.3f} (limit {LIMIT})")
    write(options.json, "sampling", {"machine": machine(), "options": vars(options), "rows": rows, "ratio": ratio})


if __name__ == "__main__":
    main()
