"""The deliveries of one or several requests as one stream, which closes what it reads from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, Self

from quire_engine.errors import RequestError
from quire_engine.text.output import Output
from quire_server.errors import AnswerFailed, DeadlineExceeded

TOO_LATE = (
    "The deadline passed before there was anything to answer with: "
    "give the request more time (x-request-timeout), or less to do."
)


class Outputs(Protocol):
    """Deliveries of all choices of one request; closing it ends the request."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Output: ...

    async def aclose(self) -> None:
        """End the request, if it still runs."""


async def deliveries(requests: Sequence[Outputs]) -> AsyncGenerator[tuple[int, Output]]:
    """Each delivery as it comes, with the place of its request.

    AnswerFailed when the engine gave one up, RequestError when a field of the request is to blame for that,
    DeadlineExceeded when the deadline passed before anything was delivered. However this ends, every request has ended
    with it.
    """
    has_begun = False
    try:
        async for place, output in _One(requests[0]) if len(requests) == 1 else _several(requests):
            if output.finish_reason == "error":
                reason = output.error or "The engine gave this answer up."
                raise RequestError(reason, param=output.param) if output.param else AnswerFailed(reason)
            if output.finish_reason == "timeout" and not (has_begun or output.token_ids):
                raise DeadlineExceeded(TOO_LATE)
            has_begun = True
            yield place, output
    finally:
        for request in requests:
            await request.aclose()


class _One:
    """A single request's deliveries, each behind its place."""

    def __init__(self, request: Outputs) -> None:
        self._request = request

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Output]:
        return 0, await anext(self._request)


async def _several(requests: Sequence[Outputs]) -> AsyncGenerator[tuple[int, Output]]:
    """One delivery of each request is awaited at a time; a delivery costs the same however many requests there are."""
    awaited: dict[int, asyncio.Task[Output | None]] = {}
    come: asyncio.Queue[int] = asyncio.Queue()

    def fetch(place: int) -> None:
        awaited[place] = asyncio.create_task(_next(requests[place]))
        awaited[place].add_done_callback(lambda _: come.put_nowait(place))

    try:
        for place in range(len(requests)):
            fetch(place)
        while awaited:
            place = await come.get()
            output = awaited.pop(place).result()
            if output is not None:
                fetch(place)
                yield place, output
    finally:
        for task in awaited.values():
            task.cancel()
        await asyncio.gather(*awaited.values(), return_exceptions=True)


async def _next(request: Outputs) -> Output | None:
    return await anext(request, None)
