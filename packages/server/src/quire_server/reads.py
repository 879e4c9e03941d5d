"""How often texts are read for tool calls, and have some: counted as vLLM counts it, which dashboards know."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

Reads: TypeAlias = Counter[tuple[str, str]]
"""By MODES and OUTCOMES."""

MODES = ("streaming", "non_streaming")
OUTCOMES = ("tool_call", "no_tool_call")


class ChoiceReads:
    """Counts the reading of one choice: in a stream each delivery that is more than reasoning, else the answer once."""

    def __init__(self, counted: Reads, *, streams: bool) -> None:
        self._counted = counted
        self._streams = streams
        self._has_called = False

    def add(self, *, calls: bool, is_last: bool) -> None:
        """One delivery was read, and brought part of a call or not."""
        self._has_called |= calls
        if self._streams:
            self._counted["streaming", OUTCOMES[not calls]] += 1
        elif is_last:
            self._counted["non_streaming", OUTCOMES[not self._has_called]] += 1
