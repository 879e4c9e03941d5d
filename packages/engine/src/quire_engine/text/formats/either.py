"""Answers that are either calls or of a form that was asked for: which, the beginning says. It knows no format.

A mark in the middle of such a form, in a string of a JSON object say, is text.
"""

from __future__ import annotations

from collections.abc import Sequence

from quire_engine.text.formats.base import Parser
from quire_engine.text.formats.events import Content, Event
from quire_engine.text.formats.scanner import WHITE_SPACE


class FormOrCalls:
    """A `Parser` of answers of which nothing but calls begins with this mark."""

    def __init__(self, calls: Parser, opening: str) -> None:
        self._calls = calls
        self._opening = opening
        self._begun = ""
        """What has come, while it is not decided."""
        self._are_calls: bool | None = None

    def push(self, text: str) -> Sequence[Event]:
        """What is certain now."""
        if self._are_calls is None:
            text = self._begun = self._begun + text
            begins = self._begun.lstrip(WHITE_SPACE)
            if self._opening.startswith(begins) and begins != self._opening:
                return []
            self._are_calls = begins.startswith(self._opening)
        return self._calls.push(text) if self._are_calls else [Content(text)]

    def finish(self) -> Sequence[Event]:
        """What is left."""
        if self._are_calls:
            return self._calls.finish()
        return [Content(self._begun)] if self._are_calls is None and self._begun else []
