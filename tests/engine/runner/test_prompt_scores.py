"""Scoring a long prompt takes memory for some of its rows at a time, however long it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.requests import submission
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.runner.eager import SCORED_LOGITS
from quire_engine.sequence import TokenLogprobs

VOCAB = 1 << 16
PROMPT = [(7 * place) % VOCAB for place in range(700)]


class Largest(TorchDispatchMode):
    """Remembers the most logits that any tensor held meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[-1] == VOCAB:
                self.logits = max(self.logits, leaf.numel())
        return result


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a vocabulary of ordinary width."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def scores(checkpoint: Path, budget: int) -> tuple[list[TokenLogprobs], int]:
    """The prompt's log-probabilities, computed `budget` tokens a step, and the most logits held for them."""
    engine = Engine.load(
        EngineConfig(
            model=str(checkpoint), dtype="float32", device="cpu", max_num_batched_tokens=budget, max_num_seqs=2
        )
    )
    engine.add(submission(1, PROMPT, max_tokens=1, prompt_logprobs=2))
    found: list[TokenLogprobs] = []
    with Largest() as largest:
        while engine.has_work:
            found += [score for emission in engine.step() for score in emission.prompt_logprobs]
    engine.close()
    return found, largest.logits


def test_logits_of_a_long_prompt_are_held_in_parts(checkpoint: Path) -> None:
    found, logits = scores(checkpoint, budget=1024)
    assert len(PROMPT) * VOCAB > 2 * SCORED_LOGITS  # all at once would be more than twice as much
    assert 0 < logits <= SCORED_LOGITS
    assert [score.token_id for score in found] == PROMPT[1:]


def test_chunks_give_the_same_scores(checkpoint: Path) -> None:
    whole, _ = scores(checkpoint, budget=1024)
    chunked, logits = scores(checkpoint, budget=100)
    assert logits <= 101 * VOCAB
    assert [score.token_id for score in chunked] == [score.token_id for score in whole]
    torch.testing.assert_close(
        torch.tensor([score.logprob for score in chunked]), torch.tensor([score.logprob for score in whole])
    )
