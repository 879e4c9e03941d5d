"""The commonest chunk of a stream, new text of one choice and nothing else, as bytes; it knows no API's schema.

Of thousands of such chunks all is equal but the text. So one is made by the schema, and cut where its text stands.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel
from pydantic_core import to_json

from quire_protocol import sse
from quire_protocol.base import random_uuid

_MARK = random_uuid()
"""Stands for the text in the chunk that is cut; nobody can guess it, so nothing else in the chunk has it."""


class TextChunk(NamedTuple):
    """New text of one choice."""

    choice: int
    text: str
    form: TextForm

    def encode(self) -> bytes:
        """The event, as the schema would have written it."""
        return self.form.event(self.text)


class TextForm:
    """How one choice's text chunks are written."""

    __slots__ = ("after", "before", "choice")

    def __init__(self, choice: int, example: Callable[[str], BaseModel]) -> None:
        """`example` makes the chunk that brings a choice (its number) a text, by the schema."""
        self.choice = choice
        self.before, self.after = encode(example(_MARK)).split(to_json(_MARK))

    def event(self, text: str) -> bytes:
        """The chunk that brings this text, as the event that is sent."""
        return self.before + to_json(text) + self.after

    def chunk(self, text: str) -> TextChunk:
        """The chunk that brings this text."""
        return TextChunk(self.choice, text, self)


Chunks: TypeAlias = AsyncGenerator[list[Any]]
"""What a stream brings: models and TextChunks, whenever some are there all of them."""


def encode(chunk: BaseModel | TextChunk) -> bytes:
    """A chunk as the event that is sent."""
    return chunk.encode() if isinstance(chunk, TextChunk) else sse.encode(chunk, exclude_unset=True)
