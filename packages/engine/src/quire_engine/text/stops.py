"""Stop strings in a stream of text: found across the borders of its pieces, and held back no longer than needed."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Watches one stream. Owns what is held back: the longest end of the text that may begin a stop string.

    The match that is complete first wins, the longest of those that complete together; so what is found
    does not depend on how the text was cut into pieces.
    """

    def __init__(self, strings: Sequence[str], *, include: bool) -> None:
        self._strings = tuple(strings)
        self._include = include
        self._held = ""
        self._first_open = [0] * len(self._strings)
        """For each string: where in what is held back it could begin at the earliest. What was ruled out stays so."""

    def push(self, text: str, *, may_stop: bool = True) -> tuple[str, str | None]:
        """The text that can be delivered now, and the stop string that ended it, if one did.

        While `may_stop` is false, no stop string may end in `text`; one may begin there and end later.
        """
        seen = len(self._held)
        text = self._held + text
        if may_stop and (match := self._first_match(text, seen)):
            start, string = match
            self._held = ""
            return text[: start + len(string) if self._include else start], string
        kept = self._beginning_of_stop(text)
        self._held = text[kept:]
        return text[:kept], None

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str, seen: int) -> tuple[int, str] | None:
        """Start of the first match that ends after the first `seen` characters, and its string."""
        matches = []
        for string in self._strings:
            start = text.find(string, max(0, seen + 1 - len(string)))
            if start >= 0:
                matches.append((start + len(string), start, string))
        if not matches:
            return None
        _, start, string = min(matches)
        return start, string

    def _beginning_of_stop(self, text: str) -> int:
        """Where the longest end of `text` starts that is the beginning of a stop string; its length if none is.

        Each start is ruled out once for each string, so a character costs the same however much is held back.
        """
        first = len(text)
        for place, string in enumerate(self._strings):
            start = text.find(string[0], max(self._first_open[place], len(text) + 1 - len(string)), first)
            while start >= 0 and not string.startswith(text[start:]):
                start = text.find(string[0], start + 1, first)
            if start >= 0:
                first = start
            self._first_open[place] = first
        self._first_open = [open_from - first for open_from in self._first_open]
        return first
