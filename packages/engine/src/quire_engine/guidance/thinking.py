"""How long an answer has been reasoning, and when its end is written for it. It knows ids, and no grammar."""

from __future__ import annotations

from collections.abc import Iterable

from quire_engine.constraint import Thinking


class ThinkingBudget:
    """Follows the reasoning of one answer.

    Reasoning begins and ends once: marks that come later are text.
    """

    def __init__(self, thinking: Thinking) -> None:
        self._limit = thinking.limit
        self._begin = thinking.begin
        self._end = thinking.end
        self._spent = 0 if thinking.is_open else None
        """Tokens since it began; None before."""
        self._is_over = not thinking.end
        self._tail: tuple[int, ...] = ()
        """The newest tokens, as many as the longer mark has."""

    def hear(self, tokens: Iterable[int]) -> None:
        """Tokens that the answer goes on with."""
        longest = max(len(self._begin), len(self._end))
        for token in tokens:
            if self._is_over:
                return
            self._tail = (*self._tail, token)[-longest:]
            if self._spent is None:
                if self._begin and self._tail[-len(self._begin) :] == self._begin:
                    self._spent, self._tail = 0, ()
                continue
            self._spent += 1
            self._is_over = self._tail[-len(self._end) :] == self._end

    @property
    def is_spent(self) -> bool:
        """Whether it is time to end the reasoning."""
        return not self._is_over and self._spent is not None and self._spent >= self._limit

    @property
    def ending(self) -> tuple[int, ...]:
        """What is missing of the mark that ends it."""
        for begun in range(min(len(self._tail), len(self._end) - 1), 0, -1):
            if self._tail[-begun:] == self._end[:begun]:
                return self._end[begun:]
        return self._end
