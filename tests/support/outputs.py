"""Deliveries without an engine: what a reply is fed in its tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

from quire_engine.sequence import TokenLogprobs
from quire_engine.text.output import Output


class Given:
    """Outputs that are there already; an exception among them is raised. It remembers whether it was closed."""

    def __init__(self, outputs: Iterable[Output | Exception], *, together: bool = False) -> None:
        self.outputs = list(outputs)
        self.together = together
        self.is_closed = False
        self.taker: Callable[[Output], bool] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        if not self.outputs:
            raise StopAsyncIteration
        output = self.outputs.pop(0)
        if isinstance(output, Exception):
            raise output
        return output

    def ready(self) -> Output | None:
        """The next one, where they come together."""
        if not (self.together and self.outputs and isinstance(self.outputs[0], Output)):
            return None
        return self.outputs.pop(0)

    async def aclose(self) -> None:
        self.is_closed = True


def scored(token_id: int, *others: int) -> TokenLogprobs:
    """A token that was drawn as the likeliest, and the next ones."""
    return TokenLogprobs(token_id, -1.0, 1, (token_id, *others), tuple(-1.0 - rank for rank in range(1 + len(others))))
