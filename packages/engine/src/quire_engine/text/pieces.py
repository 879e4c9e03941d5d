"""What each token adds to a text, as characters or as bytes; knows decoders, not streams.

Most tokenizers are *plain*: the text of a sequence is its tokens' pieces, one after the other. Then a stream
can be detokenized with one table lookup per token, exactly, whatever stands before or after.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Protocol

REPLACEMENT = "\ufffd"

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Decoder(Protocol):
    """Turns token strings into text (a decoder of the tokenizers library)."""

    def decode(self, tokens: list[str]) -> str:
        """The text of these tokens."""


class Vocabulary(Protocol):
    """Names token ids."""

    def id_to_token(self, id: int) -> str | None:
        """The token string of an id, None when there is no such id."""


class Pieces(dict[int, "str | bytes"]):
    """The piece of each token id: text, or the bytes of a token that may be half a character. Filled as ids are met.

    `each_byte` says how broken bytes are written: one U+FFFD for each (byte-fallback tokens), or one for each
    broken character (byte-level tokens).
    """

    def __init__(self, vocabulary: Vocabulary, decoder: Decoder, *, byte_level: bool) -> None:
        super().__init__()
        self.each_byte = not byte_level
        self._vocabulary = vocabulary
        self._decoder = decoder
        self._alphabet = _byte_alphabet() if byte_level else None

    def __missing__(self, token_id: int) -> str | bytes:
        token = self._vocabulary.id_to_token(token_id)
        piece = self[token_id] = "" if token is None else self._piece(token)
        return piece

    def opening(self, token_id: int) -> str | bytes:
        """The piece at the very beginning of a text, where sentencepiece tokens lose their space."""
        piece = self[token_id]
        token = self._vocabulary.id_to_token(token_id)
        return piece if isinstance(piece, bytes) or token is None else self._decoder.decode([token])

    def _piece(self, token: str) -> str | bytes:
        if self._alphabet is None:
            if match := _BYTE_TOKEN.fullmatch(token):
                raw = bytes([int(match[1], 16)])
                return raw.decode() if raw.isascii() else raw
            return self._decoder.decode(["a", token])[1:]
        try:
            raw = bytes(map(self._alphabet.__getitem__, token))
        except KeyError:
            raw = token.encode()
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


def pieces_of(vocabulary: Vocabulary, decoder: Any) -> Pieces | None:
    """The pieces of a tokenizer, or None when its decoder joins tokens in another way than end to end."""
    if decoder is None:
        return None
    steps = json.loads(decoder.__getstate__())
    steps = steps["decoders"] if steps["type"] == "Sequence" else [steps]
    names = [step["type"] for step in steps]
    if names == ["ByteLevel"]:
        return Pieces(vocabulary, decoder, byte_level=True)
    fused = names.index("Fuse") if "Fuse" in names else len(names)
    each_token = {"Replace", "ByteFallback", "Metaspace", "Strip"}
    if not each_token.issuperset(names[:fused]):
        return None
    # After Fuse the whole text is one token: what is done to it there must touch its beginning only.
    at_the_beginning = all(step["type"] == "Strip" and step["stop"] == 0 for step in steps[fused + 1 :])
    return Pieces(vocabulary, decoder, byte_level=False) if at_the_beginning else None


def decode_utf8(data: bytes, each_byte: bool) -> tuple[str, bytes]:
    """The text of these bytes, and the bytes at their end that may still become a character."""
    text = ""
    while True:
        try:
            rest, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError as broken:
            marks = broken.end - broken.start if each_byte else 1
            text += data[: broken.start].decode() + REPLACEMENT * marks
            data = data[broken.end :]
        else:
            return text + rest, data[used:]


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet stands for (Radford et al. 2019).

    Bytes that print stand for themselves; the others, in order, are shifted past U+00FF.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    shifted = [byte for byte in range(0x100) if chr(byte) not in alphabet]
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(shifted)}
