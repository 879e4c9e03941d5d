"""The deliveries of one or several requests as one stream, which closes what it reads from.

What one step of the engine gave comes together, so that it can be sent together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol, Self, TypeAlias

from quire_engine.errors import RequestError
from quire_engine.text.output import Output
from quire_server.errors import AnswerFailed, DeadlineExceeded

TOO_LATE = (
    "The deadline passed before there was anything to answer with: "
    "give the request more time (x-request-timeout), or less to do."
)


Taker: TypeAlias = Callable[[Output], bool]
"""Takes a delivery before anybody is woken for it (True), or leaves it (False)."""


class Outputs(Protocol):
    """Deliveries of all choices of one request; closing it ends the request."""

    taker: Taker | None
    """Is offered each delivery for which somebody waits, but for a choice's last."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Output: ...

    def ready(self) -> Output | None:
        """The next delivery if it is there already."""

    async def aclose(self) -> None:
        """End the request, if it still runs."""


Delivery: TypeAlias = tuple[int, Output]
"""One delivery, behind the place of its request."""


async def deliveries(requests: Sequence[Outputs]) -> AsyncGenerator[list[Delivery]]:
    """All deliveries that are there, whenever some are.

    AnswerFailed when the engine gave one up, RequestError when a field of the request is to blame for that,
    DeadlineExceeded when the deadline passed before anything was delivered. However this ends, every request has ended
    with it.
    """
    has_begun = False
    try:
        async for come in _OfOne(requests[0]) if len(requests) == 1 else _of_several(requests):
            sound: list[Delivery] = []
            for place, output in come:
                if error := _error(output, has_begun=has_begun):
                    if sound:
                        yield sound
                    raise error
                has_begun = True
                sound.append((place, output))
            yield sound
    finally:
        for request in requests:
            await request.aclose()


def _error(output: Output, *, has_begun: bool) -> Exception | None:
    """What to raise for a delivery that is none."""
    if output.finish_reason == "error":
        reason = output.error or "The engine gave this answer up."
        return RequestError(reason, param=output.param) if output.param else AnswerFailed(reason)
    if output.finish_reason == "timeout" and not (has_begun or output.token_ids):
        return DeadlineExceeded(TOO_LATE)
    return None


class _OfOne:
    """A single request's deliveries. No generator, as that would cost every token a little more."""

    def __init__(self, request: Outputs) -> None:
        self._request = request

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delivery]:
        return _with_ready(0, await anext(self._request), self._request)


async def _of_several(requests: Sequence[Outputs]) -> AsyncGenerator[list[Delivery]]:
    """Each request is awaited in a task of its own; a delivery costs the same however many requests there are."""
    awaited: dict[int, asyncio.Task[Output | None]] = {}
    come: asyncio.Queue[int] = asyncio.Queue()

    def fetch(place: int) -> None:
        awaited[place] = asyncio.create_task(_next(requests[place]))
        awaited[place].add_done_callback(lambda _: come.put_nowait(place))

    def fetched(place: int) -> list[Delivery]:
        output = awaited.pop(place).result()
        if output is None:
            return []
        found = _with_ready(place, output, requests[place])
        fetch(place)
        return found

    try:
        for place in range(len(requests)):
            fetch(place)
        while awaited:
            found = fetched(await come.get())
            while not come.empty():
                found += fetched(come.get_nowait())
            if found:
                yield found
    finally:
        for task in awaited.values():
            task.cancel()
        await asyncio.gather(*awaited.values(), return_exceptions=True)


def _with_ready(place: int, output: Output, request: Outputs) -> list[Delivery]:
    """A delivery of a request, and those that are there behind it."""
    found = [(place, output)]
    while (more := request.ready()) is not None:
        found.append((place, more))
    return found


async def _next(request: Outputs) -> Output | None:
    return await anext(request, None)
