"""Prefill and decode tokens per second over the batch, beside transformers' generate in the same run.

usage: python benchmarks/engine.py [--batches 1 8 32] [--prompt 128] [--output 64] [--rounds 3] [--threads 2]

The checkpoint has the shape of Qwen3-0.6B with a vocabulary of 8,192 and random bfloat16 weights. Rounds alternate ours
and the peer's; medians are printed. Prefill is the time to the first token of the whole batch, decode what follows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from quire_engine import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams
from results import machine, table, write

SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "eos_token_id": None,
    "bos_token_id": None,
}


def checkpoint(folder: Path) -> Path:
    """Save the random checkpoint once."""
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**SHAPE)).to(torch.bfloat16).save_pretrained(folder)
    return folder


def prompts(batch: int, length: int, salt: int) -> list[list[int]]:
    """Fresh random prompts, so that no cached prefix helps."""
    generator = torch.Generator().manual_seed(1000 * salt + batch)
    return torch.randint(10, SHAPE["vocab_size"], (batch, length), generator=generator).tolist()


class Ours:
    """The engine, driven step by step."""

    def __init__(self, path: Path) -> None:
        config = EngineConfig(model=str(path), skip_tokenizer_init=True, max_num_batched_tokens=2048)
        self.engine = Engine.load(config)
        self.handle = 0

    def run(self, batch: list[list[int]], output: int) -> tuple[float, float]:
        """Seconds until every prompt has its first token, and for the tokens after it."""
        params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
        began = time.perf_counter()
        for ids in batch:
            self.handle += 1
            self.engine.add(Submission(self.handle, GenerateRequest(token_ids=ids, sampling_params=params)))
        started: set[int] = set()
        while len(started) < len(batch):
            started |= {emission.handle for emission in self.engine.step()}
        prefilled = time.perf_counter()
        while self.engine.has_work:
            self.engine.step()
        return prefilled - began, time.perf_counter() - prefilled


class Transformers:
    """The peer: transformers' own generate with its best attention for a CPU."""

    def __init__(self, path: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def run(self, batch: list[list[int]], output: int) -> tuple[float, float]:
        ids = torch.tensor(batch)
        mask = torch.ones_like(ids)
        began = time.perf_counter()
        self.model.generate(ids, attention_mask=mask, max_new_tokens=1, do_sample=False, pad_token_id=0)
        prefilled = time.perf_counter()
        self.model.generate(
            ids, attention_mask=mask, max_new_tokens=output, min_new_tokens=output, do_sample=False, pad_token_id=0
        )
        whole = time.perf_counter() - prefilled
        return prefilled - began, whole - (prefilled - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        path = checkpoint(Path(scratch))
        ours, peer = Ours(path), Transformers(path)
        for batch in options.batches:
            timings: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
            ours.run(prompts(batch, options.prompt, 99), 4)
            for turn in range(options.rounds):
                ids = prompts(batch, options.prompt, turn)
                timings["ours"].append(ours.run(ids, options.output))
                timings["peer"].append(peer.run(ids, options.output))
            for column, (what, tokens) in enumerate(
                (("prefill", batch * options.prompt), ("decode", batch * (options.output - 1)))
            ):
                rate = {who: tokens / statistics.median(run[column] for run in runs) for who, runs in timings.items()}
                rows.append(
                    {
                        "what": what,
                        "batch": batch,
                        "ours (tok/s)": rate["ours"],
                        "transformers (tok/s)": rate["peer"],
                        "ratio": rate["ours"] / rate["peer"],
                    }
                )
                print(rows[-1], flush=True)
    print(table(rows))
    write(options.json, "engine", {"machine": machine(), "options": vars(options), "rows": rows})


if __name__ == "__main__":
    main()
