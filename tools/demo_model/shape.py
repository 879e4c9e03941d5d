"""The demo model's shape, and a fresh model of it. Knows no training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tools.demo_model.attention import register
from tools.demo_model.tokenizer import CONTEXT
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen3."""

    hidden: int = 256
    inner: int = 640
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64


SHAPE = Shape()
"""4.7 million parameters, 0.5 of them embeddings."""


def fresh(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A model with random weights in float32, embeddings tied."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation=register(),
    )
    model = Qwen3ForCausalLM(config)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    return model
