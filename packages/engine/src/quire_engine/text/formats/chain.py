"""Two parsers as one: what the first finds to be content, the second reads further. It knows no format."""

from __future__ import annotations

from collections.abc import Iterable

from quire_engine.text.formats.base import Parser
from quire_engine.text.formats.events import Content, Event


class Chain:
    """A `Parser` of answers that reason and call tools."""

    def __init__(self, reasoning: Parser, calls: Parser) -> None:
        self._reasoning = reasoning
        self._calls = calls

    def push(self, text: str) -> list[Event]:
        """What is certain now."""
        return self._read(self._reasoning.push(text))

    def finish(self) -> list[Event]:
        """What is left."""
        return [*self._read(self._reasoning.finish()), *self._calls.finish()]

    def _read(self, events: Iterable[Event]) -> list[Event]:
        found: list[Event] = []
        for event in events:
            found += self._calls.push(event.text) if isinstance(event, Content) else [event]
        return found
