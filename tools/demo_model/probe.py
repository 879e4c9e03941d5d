"""How much of the held-out set the model in training would answer exactly, without generating anything."""

from __future__ import annotations

from collections import defaultdict

from tokenizers import Tokenizer
from tools.demo_model.corpus.sample import Completion
from tools.demo_model.corpus.tasks import TASKS, held_out
from tools.demo_model.packing import Batch, Encoded, by_length, encode
from tools.demo_model.trainer import Trainer

EACH = 16
"""Questions of each task. Another seed than the evaluation's: what is looked at during training is not what is told."""
SEED = 1


def questions(tokenizer: Tokenizer, pad: int, each: int = EACH) -> list[Batch]:
    """Held-out samples of all tasks that have one right answer."""
    samples: list[Encoded] = []
    for name in (name for name, task in TASKS.items() if task.asked):
        drawn = held_out(name, each, SEED)
        exact = [one for one in drawn if isinstance(one, Completion) or one.check != "mentions"]
        samples += [encode(one, tokenizer)._replace(task=name) for one in exact]
    return by_length(samples, pad)


def shares(trainer: Trainer, batches: list[Batch]) -> dict[str, float]:
    """By task: the share of samples all of whose answers would be exact, each after the right ones before it."""
    right: dict[str, list[bool]] = defaultdict(list)
    for batch in batches:
        for task, is_exact in zip(batch.tasks, trainer.exact(batch), strict=True):
            right[task].append(is_exact)
    return {task: round(sum(right[task]) / len(right[task]), 3) for task in TASKS if task in right}
