"""Small tokenizers of every kind that matters, made on the spot: each joins tokens into text in its own way."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from quire_engine.text.tokenizer import Tokenizer

CORPUS = (
    "def main(argv):\n    return 0\n\nclass Graph(object):\n    '''A graph, and what is done with it.'''\n",
    "The quick brown fox jumps over the lazy dog. It's not the fox's dog; they don't know each other!",
    "Größe, naïveté, café, Übermut – schöne Wörter, œuvre, Ærø.",
    "日本語のテキストと中文文本,以及한국어 문장.",
    "Emoji 👍🏽 😀 🎉 and flags 🇳🇴; Привет, мир! שלום עולם مرحبا بالعالم",
    "numbers 1 12 123 1234 12345   and    spaces\t\ttabs",
)
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>")


def byte_level_bpe() -> tokenizers.Tokenizer:
    """GPT-2, Llama 3, Qwen, DeepSeek: every token is bytes in disguise."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    return tokenizer


def byte_fallback_bpe(*, strips: bool = True) -> tokenizers.Tokenizer:
    """Llama 2, Mistral (strips the first space) and Gemma (does not): sentencepiece with byte tokens for the rest."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    ascii_only = ["".join(c for c in text if c.isascii()).replace(" ", "▁") for text in CORPUS]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(ascii_only, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram() -> tokenizers.Tokenizer:
    """T5, XGLM: sentencepiece's other model, and the Metaspace decoder."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece() -> tokenizers.Tokenizer:
    """BERT: words are joined by spaces, except where a token says it goes on."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", *SPECIAL], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def suffix_bpe() -> tokenizers.Tokenizer:
    """CLIP, XLM: a token says where its word ends."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", *SPECIAL], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = {
    "byte-level": byte_level_bpe,
    "byte-fallback": byte_fallback_bpe,
    "byte-fallback-unstripped": lambda: byte_fallback_bpe(strips=False),
    "unigram": unigram,
    "word-piece": word_piece,
    "suffix": suffix_bpe,
}


def write_checkpoint(folder: Path, backend: tokenizers.Tokenizer, **config: Any) -> Path:
    """The tokenizer files of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    return folder


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    """Quire's tokenizer of this kind, loaded from files as any other."""
    with tempfile.TemporaryDirectory() as folder:
        return Tokenizer.load(write_checkpoint(Path(folder), KINDS[kind](), eos_token="<|end|>"))
