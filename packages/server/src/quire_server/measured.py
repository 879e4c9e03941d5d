"""How long an answer took, told in the answer itself where that was asked for; it knows no API's schema."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic import BaseModel

from quire_server.accounts import Account
from quire_server.replies.wire import Chunks, TextChunk
from quire_server.timings import request_metrics

M = TypeVar("M", bound=BaseModel)


def with_metrics(answer: M, account: Account | None) -> M:
    """The same answer, with `metrics` if they were asked for."""
    timing = account.timing if account is not None and account.wants_metrics else None
    if timing is not None:
        setattr(answer, "metrics", request_metrics(timing))  # noqa: B010 (a field that no schema has)
    return answer


async def measured(chunks: Chunks, account: Account | None) -> AsyncGenerator[list[BaseModel | TextChunk]]:
    """The same chunks, the last one with `metrics` if they were asked for.

    Which one is last is known when no other comes. So a chunk that may be the last, as it ends a choice or brings none,
    waits for the next; all others go out as they come. Where an error comes instead of a next one, it goes out before.
    """
    held: BaseModel | None = None
    try:
        async with aclosing(chunks):
            async for come in chunks:
                *before, last = come if held is None else [held, *come]
                held = last if not isinstance(last, TextChunk) and _may_be_last(last) else None
                if found := before if held is not None else [*before, last]:
                    yield found
    except Exception:
        if held is not None:
            yield [held]
        raise
    if held is not None:
        yield [with_metrics(held, account)]


def _may_be_last(chunk: BaseModel) -> bool:
    choices: list[Any] = getattr(chunk, "choices", [])
    return all(choice.finish_reason for choice in choices)
