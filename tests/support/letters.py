"""A tokenizer of single letters, for engines that count: after "a" comes "b"."""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tests.support.tokenizer_kinds import write_checkpoint
from tokenizers import decoders, models, pre_tokenizers


def letters() -> tokenizers.Tokenizer:
    """One token for each printable ASCII character, in order; 0 is the end of a sequence."""
    characters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = {"<|end|>": 0} | {character: place for place, character in enumerate(characters, start=1)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def write_letters(folder: Path) -> str:
    """Where a checkpoint with this tokenizer and a plain chat template lies now."""
    template = "{% for message in messages %}{{ message.role }}:{{ message.content }};{% endfor %}"
    return str(write_checkpoint(folder, letters(), eos_token="<|end|>", chat_template=template))
