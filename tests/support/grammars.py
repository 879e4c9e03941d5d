"""Whether a text, in whatever tokens, is an answer that a grammar allows: the grammar library asked token by token."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import llguidance
import tokenizers
from tests.support.tokenizer_kinds import byte_level_bpe, write_checkpoint
from tokenizers import AddedToken

from quire_engine.text.tokenizer import Tokenizer

SPECIAL_MARKS = ("[TOOL_CALLS]", "<|begin|>", "<|end_of_call|>")
"""Marks that are special tokens of the vocabulary."""
END = "<|end of text|>"
"""What ends an answer: a token that is no mark of any format."""
ADDED_MARKS = ("</think>", "<tool_call>", "</tool_call>")
"""Marks that are added tokens and not special, beside <think>."""


class Vocabulary:
    """A byte-level tokenizer with marks, and the grammar library's view of it."""

    def __init__(self, folder: Path) -> None:
        backend = byte_level_bpe()
        backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in (*SPECIAL_MARKS, END)])
        backend.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in ADDED_MARKS])
        self.tokenizer = Tokenizer.load(write_checkpoint(folder, backend, eos_token=END))
        self.library = llguidance.LLTokenizer(backend.to_str(), eos_token=backend.token_to_id(END))
        self._backend: tokenizers.Tokenizer = backend

    def tokens(self, text: str) -> list[int]:
        """The text as the tokenizer cuts it: with marks as tokens."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def pieces(self, text: str) -> list[int]:
        """The text byte by byte: what a model can write too, and marks are no tokens."""
        alphabet = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [self._id(letter) for word, _ in alphabet.pre_tokenize_str(text) for letter in word]

    def _id(self, letter: str) -> int:
        token_id = self._backend.token_to_id(letter)
        assert token_id is not None, "a byte-level vocabulary has every byte"
        return token_id


@cache
def vocabulary() -> Vocabulary:
    """The one that tests of grammars share."""
    with tempfile.TemporaryDirectory() as folder:
        return Vocabulary(Path(folder))


def allowed(grammar: str, ids: list[int]) -> int:
    """How many of the ids the grammar allows, from the first one on. ValueError for a grammar that is none."""
    matcher = matcher_of(grammar)
    return matcher.validate_tokens(ids)


def matcher_of(grammar: str) -> llguidance.LLMatcher:
    """A matcher at the beginning of an answer. ValueError for a grammar that is none."""
    matcher = llguidance.LLMatcher(vocabulary().library, llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0)
    if matcher.is_error():
        raise ValueError(f"{matcher.get_error()}\n{grammar}")
    return matcher


def takes(grammar: str, text: str, *, as_pieces: bool = False) -> bool:
    """Whether the whole text is an answer that may end there."""
    ids = vocabulary().pieces(text) if as_pieces else vocabulary().tokens(text)
    matcher = matcher_of(grammar)
    return matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting()


def takes_json(grammar: str, value: object) -> bool:
    """Whether the value, written on one line as json.dumps does, is an answer."""
    return takes(grammar, json.dumps(value, ensure_ascii=False))
