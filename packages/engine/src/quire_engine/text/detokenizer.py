"""From token ids, one at a time, to text; it knows half characters and neighbours, not stop strings.

The texts of one stream, put together, are what the tokenizer makes of all its ids after the prompt. No text ends in
half a character: bytes wait for the rest of theirs, and a character belongs to the token that completes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from quire_engine.text.pieces import REPLACEMENT, Pieces, decode_utf8
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import SamplingParams

LONGEST_CHARACTER = 4
"""Bytes of the longest character in UTF-8."""

_WINDOW = 6
"""Tokens of context from which a decoder that looks at neighbours is given its start."""

_NONE: frozenset[int] = frozenset()


class Detokenizer(Protocol):
    """The text state of one stream."""

    def push(self, token_id: int) -> str:
        """The text that this token completes."""

    def finish(self) -> str:
        """What was held back; broken characters become U+FFFD. Nothing may be pushed afterwards."""


def detokenizer(
    tokenizer: Tokenizer, prompt: Sequence[int], params: SamplingParams, shown: frozenset[int] = _NONE
) -> Detokenizer:
    """The detokenizer for this tokenizer, for a stream that continues `prompt`.

    `shown` are special tokens that stay in the text although others are skipped.
    """
    skipped = tokenizer.special_ids - shown if params.skip_special_tokens else _NONE
    if tokenizer.pieces is not None:
        return PieceDetokenizer(tokenizer.pieces, prompt, skipped)
    return WindowDetokenizer(tokenizer, prompt, skipped, spaced=params.spaces_between_special_tokens)


class PieceDetokenizer:
    """For plain tokenizers: each token adds its own piece, so one table lookup per token is enough."""

    __slots__ = ("_borrowed", "_is_open", "_pending", "_pieces", "_skipped")

    def __init__(self, pieces: Pieces, prompt: Sequence[int], skipped: frozenset[int]) -> None:
        self._pieces = pieces
        self._skipped = skipped
        self._is_open = all(token_id in skipped for token_id in prompt)  # nothing visible came before
        self._pending = _unfinished(prompt, pieces, skipped)
        self._borrowed = len(self._pending)
        # Bytes of a character that the prompt began: if it breaks, its U+FFFD is the prompt's, not ours.

    def push(self, token_id: int) -> str:
        """The text that this token completes."""
        if token_id in self._skipped:
            return ""
        piece = self._pieces[token_id]
        if self._is_open:
            self._is_open = False
            piece = self._pieces.opening(token_id)
        if not self._pending and isinstance(piece, str):
            return piece
        data = self._pending + (piece.encode() if isinstance(piece, str) else piece)
        text, self._pending = decode_utf8(data, self._pieces.each_byte)
        return self._return_borrowed(text, data) if self._borrowed and text else text

    def finish(self) -> str:
        """What was held back; broken characters become U+FFFD."""
        data, self._pending = self._pending, b""
        text = REPLACEMENT * len(data) if self._pieces.each_byte else data.decode("utf-8", "replace")
        return self._return_borrowed(text, data) if self._borrowed else text

    def _return_borrowed(self, text: str, data: bytes) -> str:
        """`text` without the mark of the prompt's own broken character, if it did break."""
        borrowed, self._borrowed = self._borrowed, 0
        is_broken = text[0] == REPLACEMENT and not data.startswith(REPLACEMENT.encode())
        return text[borrowed if self._pieces.each_byte else 1 :] if is_broken else text


class WindowDetokenizer:
    """For tokenizers whose tokens depend on their neighbours: decodes a short window twice and delivers the growth.

    The window is the tokens of the last delivery and those since; what it gave before is cut off the front.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], skipped: frozenset[int], *, spaced: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._spaced = spaced
        visible = (token_id for token_id in reversed(prompt) if token_id not in skipped)
        self._window = [*islice(visible, _WINDOW)][::-1]
        self._delivered = len(self._window)
        self._before = self._decode(self._window)

    def push(self, token_id: int) -> str:
        """The text that this token completes."""
        if token_id in self._skipped:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        may_be_half = text.endswith(REPLACEMENT) and len(self._window) - self._delivered < LONGEST_CHARACTER
        return "" if may_be_half else self._deliver(text)

    def finish(self) -> str:
        """What was held back; broken characters become U+FFFD."""
        return self._deliver(self._decode(self._window))

    def _deliver(self, text: str) -> str:
        before = self._before if text.startswith(self._before) else self._before.rstrip(REPLACEMENT)
        del self._window[: self._delivered]
        self._delivered = len(self._window)
        self._before = self._decode(self._window)
        return text[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, spaced=self._spaced)


def _unfinished(prompt: Sequence[int], pieces: Pieces, skipped: frozenset[int]) -> bytes:
    """The bytes at the end of the prompt that may still become a character."""
    tail = b""
    for token_id in reversed(prompt):
        if token_id in skipped:
            continue
        piece = pieces[token_id]
        if isinstance(piece, str) or len(tail) >= LONGEST_CHARACTER:
            break
        tail = piece + tail
    return decode_utf8(tail, pieces.each_byte)[1]
