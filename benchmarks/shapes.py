"""The checkpoints that benchmarks measure: their sizes, random weights, and what a step of them costs at least.

It knows no machine: limits.py says how many bytes and operations a second there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

MADE = "complete-2"
"""The file that says that a folder has everything; its number grows when what is written there changes."""
PROMPTS_FROM = 10
"""Lowest token id of a random prompt; the ones below are special in some tokenizers."""


@dataclass(frozen=True)
class Shape:
    """A decoder of Qwen3's family."""

    name: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int = 128
    vocabulary: int = 8192
    positions: int = 4096

    @property
    def weights(self) -> int:
        """Numbers that every step reads: all layers, and the embedding as the output projection."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner) + self.vocabulary * self.hidden

    def cache_bytes(self, tokens: float, bits: int = 16) -> float:
        """Bytes of keys and values of so many tokens."""
        return tokens * self.layers * 2 * self.kv_heads * self.head * bits / 8

    def weight_bytes(self, bits: float = 16) -> float:
        """Bytes of the weights that every step reads."""
        return self.weights * bits / 8

    def operations(self, tokens: int, context: float) -> float:
        """Multiplications and additions of `tokens` tokens that see `context` keys each."""
        return tokens * (2 * self.weights + 4 * self.layers * self.heads * self.head * context)

    def config(self) -> dict[str, Any]:
        """The fields of transformers' configuration."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "max_position_embeddings": self.positions,
            "tie_word_embeddings": True,
            "eos_token_id": 0,
            "bos_token_id": None,
        }


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", layers=6, hidden=256, inner=768, heads=4, kv_heads=2, head=64, vocabulary=640),  # 5 M
        Shape("small", layers=8, hidden=1024, inner=3072, heads=16, kv_heads=8),
        Shape("0.6b", layers=28, hidden=1024, inner=3072, heads=16, kv_heads=8),  # Qwen3-0.6B, a small vocabulary
        Shape(
            "8b", layers=32, hidden=4096, inner=14336, heads=32, kv_heads=8, vocabulary=128_256, positions=131_072
        ),  # Llama-3.1-8B
    )
}


def checkpoint(shape: Shape, cache: Path) -> Path:
    """A folder with random bfloat16 weights and a tokenizer that calls every token by its number; made once.

    The tokenizer joins its tokens end to end, as that of the family does (Qwen's is byte-level).
    """
    folder = cache / "checkpoints" / f"{shape.name}-{shape.layers}x{shape.hidden}"
    if not (folder / MADE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _save_model(shape, folder)
        _save_tokenizer(shape, folder)
        (folder / MADE).touch()
    return folder


def prompts(shape: Shape, batch: int, length: int, salt: int) -> list[list[int]]:
    """Random prompts that differ with every salt, so that no cached prefix helps."""
    draw = Random(1000 * salt + batch)
    return [draw.choices(range(PROMPTS_FROM, shape.vocabulary), k=length) for _ in range(batch)]


def _save_model(shape: Shape, folder: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        Qwen3ForCausalLM(Qwen3Config(**shape.config())).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)


def _save_tokenizer(shape: Shape, folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"\u0120{number}": number for number in range(shape.vocabulary)}  # a byte-level alphabet's space
    core = Tokenizer(models.WordLevel(words, unk_token="\u01200"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="\u01200").save_pretrained(folder)
