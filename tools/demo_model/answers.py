"""Write down what the demo model answers to a fixed list of prompts, as transformers computes it in float32.

usage: python -m tools.demo_model.answers [CHECKPOINT] [--file FILE]

CHECKPOINT is a folder; without one, the model that comes with the package is asked. The engine's tests hold it to FILE.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tools.demo_model.corpus.sample import Dialogue, user
from tools.demo_model.corpus.tasks import TASKS, held_out
from tools.demo_model.render import pieces, prompt
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from quire_engine.checkpoint import DEFAULT_MODEL

FILE = Path(__file__).parents[2] / "tests" / "engine" / "default_model_answers.json"
EACH = 3
"""Questions of each task."""
SEED = 2
"""Other questions than those of training's probes and of the evaluation."""
LONGEST = 160
"""Tokens that an answer may have."""
TALK = (
    "Hello!",
    "Who are you?",
    "What can you do?",
    "What is 47 + 38?",
    "What is the capital of France?",
    "Thank you!",
)
"""What a newcomer says first."""


def prompts() -> Iterator[tuple[str, str]]:
    """The task and the whole prompt of each question."""
    for said in TALK:
        yield "talk", prompt(Dialogue("talk", (user(said), {"role": "assistant", "content": ""})))
    for task in (name for name, one in TASKS.items() if one.asked):
        for sample in held_out(task, EACH, SEED):
            yield task, "".join(piece.text for piece in pieces(sample)[:-1])


@torch.no_grad()
def answered(model: Any, tokenizer: Any, text: str) -> str:
    """What the model says next, up to its end, marks of thoughts and calls included."""
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    ended = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LONGEST)
    return str(tokenizer.decode(ended[0, ids.shape[1] :], skip_special_tokens=True))


def main() -> None:
    """Ask and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=DEFAULT_MODEL, help="a checkpoint folder")
    parser.add_argument("--file", type=Path, default=FILE, help="what is written")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    written = [
        {"task": task, "prompt": text, "answer": answered(model, tokenizer, text)} for task, text in tqdm([*prompts()])
    ]
    options.file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
