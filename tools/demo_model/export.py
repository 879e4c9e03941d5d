"""Write a trained model as a checkpoint folder that transformers, Quire and their peers load. Knows no training."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

LIMIT = 16_000_000
"""Bytes that the folder may have: it is part of a wheel."""


def export(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> int:
    """Write weights in bfloat16, configuration, tokenizer and template; the bytes written. ValueError if too many."""
    rounded = copy.deepcopy(model).to("cpu", torch.bfloat16)
    rounded.config._attn_implementation = "sdpa"
    rounded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone; a package is for everybody
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > LIMIT:
        raise ValueError(f"{folder} has {size} bytes, and the limit is {LIMIT}: choose a smaller shape.")
    return size
