"""A model's tokens as the grammar library sees them: by their bytes, whole or spelled out. It knows no grammar."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby

from llguidance import LLTokenizer, TokenizerWrapper

from quire_engine.errors import RequestError
from quire_engine.text.tokenizer import Tokenizer

GUARD = "\x02"
"""A character that merges with no other: behind it a text is cut as it is inside a longer one."""


class Vocabulary:
    """The tokens of one model, twice: `tokens` are its own; `spelling` has its marks, and one token for every byte.

    Marks (special tokens, and added ones that are no part of free text) have the same ids in both. What leads to an end
    of an answer is looked for in the spelling, where there are 256 ways to go on and not a whole vocabulary of them.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, eos_token_ids: Collection[int]) -> None:
        """`size` is the number of logits. RequestError for a tokenizer whose tokens have no bytes of their own."""
        if tokenizer.pieces is None:
            raise RequestError(
                "This model's answers cannot be constrained: what a token of its tokenizer adds to a text depends on "
                "the tokens beside it. Leave the constraint out."
            )
        self.size = size
        self.eos_token_ids = frozenset(eos_token_ids)
        marks = {*tokenizer.special_ids, *tokenizer.marks.values(), *eos_token_ids}
        self.marks = tuple(sorted(mark for mark in marks if mark < size))
        bytes_of = [tokenizer.token_bytes(token) if token < tokenizer.vocab_size else b"" for token in range(size)]
        for mark in self.marks:
            bytes_of[mark] = tokenizer.token_text(mark).encode() or b"<mark>"
        # A model without an end-of-sequence token is given one that it cannot draw.
        ends = sorted(eos for eos in self.eos_token_ids if eos < size) or [size]
        if ends == [size]:
            bytes_of.append(b"<end>")
        whole = _Cutter(tokenizer, bytes_of, {*self.marks, *ends})
        self.tokens = LLTokenizer(TokenizerWrapper(whole), eos_token=ends)
        self.first_byte = -(-len(bytes_of) // 8) * 8
        """The spelling's token for byte 0; those for the others follow. Divisible by 8, as masks are read by bytes."""
        gap = [b""] * (self.first_byte - size)
        spelled = [bytes_of[token] if token in whole.special else b"" for token in range(size)]
        spelled += [bytes_of[size], *gap[1:]] if ends == [size] else gap
        letters = _Letters(self.first_byte, spelled, whole.special)
        self.spelling = LLTokenizer(TokenizerWrapper(letters), eos_token=ends)
        self._bytes = bytes_of
        self._special = whole.special

    def spelled(self, token_ids: Iterable[int]) -> list[int]:
        """Tokens as the spelling has them: marks as they are, all else byte by byte."""
        return [
            letter
            for token in token_ids
            for letter in ([token] if token in self._special else self.letters(self._bytes[token]))
        ]

    def letters(self, text: bytes) -> list[int]:
        """These bytes in the spelling."""
        return [self.first_byte + byte for byte in text]

    def joined(self, path: Iterable[int]) -> list[int] | None:
        """The model's own tokens for what is spelled out; None for text that they cannot write."""
        path = [*path]
        tokens: list[int] = []
        for is_mark, group in groupby(path, self._special.__contains__):
            run = [*group]
            tokens += run if is_mark else self._cut(bytes(letter - self.first_byte for letter in run))
        return tokens if self.spelled(tokens) == path else None

    def _cut(self, text: bytes) -> list[int]:
        """As the tokenizer cuts these bytes; the longest tokens first where it gives other bytes for them."""
        tokens = self.tokens.tokenize_bytes(text)
        if self.tokens.decode_bytes(tokens) == text:
            return tokens
        return self.tokens.greedy_tokenize(text.decode(errors="replace"))


class _Cutter:
    """A tokenizer as the grammar library asks for one."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, tokens: list[bytes], special: Collection[int]) -> None:
        self.tokens = tokens
        self.special = frozenset(special)
        self.special_token_ids = sorted(special)
        self.eos_token_id = self.special_token_ids[0]  # the caller names those that count
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        """How this text is cut inside a longer one: some tokenizers put a space before the first.

        A tokenizer that cannot write the guard puts nothing before it, as far as is known.
        """
        ids = self._tokenizer.encode(GUARD + text, add_special_tokens=False)
        before, place = b"", 0
        while place < len(ids) and not before.endswith(GUARD.encode()):
            before += self.tokens[ids[place]]
            place += 1
        is_guarded = before.endswith(GUARD.encode())
        return ids[place:] if is_guarded else self._tokenizer.encode(text, add_special_tokens=False)


class _Letters:
    """A tokenizer of bytes, as the grammar library asks for one."""

    bos_token_id = None

    def __init__(self, first_byte: int, marks: list[bytes], special: Collection[int]) -> None:
        self.tokens = [*marks, *(bytes([byte]) for byte in range(256))]
        self.special_token_ids = sorted(special)
        self.eos_token_id = self.special_token_ids[0]
        self._first_byte = first_byte

    def __call__(self, text: bytes | str) -> list[int]:
        return [self._first_byte + byte for byte in (text if isinstance(text, bytes) else text.encode())]
