"""A process that answers requests for an engine elsewhere: `python -m quire_server.worker LISTENER HUB`.

Both are the numbers of open files that it was started with: the listener, which its siblings have too, and its end of a
socket to the hub. What it is to serve, and when it is to stop, the hub says; signals are for the process that has it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, EngineStopped
from quire_engine.link.peer import Begin, Handler, Peer, PeerGone
from quire_engine.link.remote import RemoteLink
from quire_server import logs
from quire_server.brief import PULSE, READY, REFUSED, REREAD, STOP, Brief
from quire_server.relay import Relay
from quire_server.reread import Reread
from quire_server.serve import SIGNALS, Exit, Site, Stop, answer, end_soon, formats_of, loop_factory
from quire_server.siblings import ThroughHub

if TYPE_CHECKING:
    from quire_engine.async_engine import AsyncEngine
    from quire_server.dependencies import Serving


def main(listener: int, hub: int) -> int:
    """Answer until told to stop, or until nobody can tell that any more; the exit status."""
    for number in (*SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: the process that has the hub judges
    with (
        socket.socket(fileno=listener) as shared,
        socket.socket(fileno=hub) as own,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        return end_soon(runner.run(work(shared, own)))


async def work(listener: socket.socket, hub: socket.socket) -> int:
    """Hear what is to be served, and serve it."""
    peer = await Peer.over(hub)
    try:
        begin = await peer.receive()
    except PeerGone:
        return Exit.FAILED
    assert isinstance(begin, Begin), "the hub says first what a front end is to be"
    brief = Brief.model_validate_json(begin.brief)
    logs.configure(brief.settings.log_format)
    stop, reread = Stop(), Reread()
    peer.handlers |= {STOP: does(stop.ask), REREAD: does(reread), PULSE: does(lambda: None)}

    async def ready(serving: Serving) -> None:
        await peer.ask(READY, json.dumps(formats_of(serving)).encode())

    site = Site(brief.settings, brief.name, listener, stop, reread)
    relay = Relay(site.entrance, brief.folder, brief.place, brief.settings.api_server_count)
    starting = asyncio.create_task(start_engine(peer, begin.config))
    try:
        async with relay.listening():
            keeps = brief.settings.stream_grace > 0  # else no answer outlives its connection
            return await answer(site, starting, ready, partial(ThroughHub, peer), relay if keeps else None)
    except ConfigError as error:
        if brief.place == 0:  # the others say the same
            print(f"quire: {error}", file=sys.stderr)
        return REFUSED
    except (EngineStopped, PeerGone):  # the process that has the engine says so, if it is there
        return Exit.FAILED


async def start_engine(peer: Peer, config: EngineConfig) -> AsyncEngine:
    """The engine behind the hub, once it is there."""
    front = await asyncio.to_thread(import_module, "quire_engine.async_engine")
    engine: AsyncEngine = await front.AsyncEngine.over(RemoteLink.over(peer), config)
    return engine


def does(something: Callable[[], None]) -> Handler:
    """Answers a question by doing something."""

    async def handler(body: bytes) -> bytes:
        something()
        return b""

    return handler


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
