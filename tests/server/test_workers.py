"""The process that has the engine sees to it that its workers are there; what that comes to is told in tests/e2e."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.loop import run

from quire_engine.config import EngineConfig
from quire_engine.link.hub import Hub, Member
from quire_engine.link.peer import Peer, PeerGone
from quire_server import workers as workers_module
from quire_server.brief import PULSE
from quire_server.settings import ServerSettings
from quire_server.worker import does
from quire_server.workers import Exit, Workers

PLACES = 2


@asynccontextmanager
async def fleet() -> AsyncIterator[tuple[Hub, Workers]]:
    """A hub without an engine, and who would start its workers."""
    hub = Hub(EngineConfig())
    settings = ServerSettings(api_key=(), api_server_count=PLACES)
    with socket.socket() as listener:
        workers = Workers(hub, EngineConfig(), settings, listener, "tiny")
        try:
            yield hub, workers
        finally:
            await workers.__aexit__()


@asynccontextmanager
async def member(hub: Hub) -> AsyncIterator[tuple[Member, Peer]]:
    """A worker's two ends of its socket."""
    ours, theirs = socket.socketpair()
    joined, peer = await hub.join(ours, b""), await Peer.over(theirs)
    try:
        yield joined, peer
    finally:
        await peer.close()


async def listen(peer: Peer) -> None:
    """As a worker does: receive whatever comes."""
    try:
        while True:
            await peer.receive()
    except PeerGone:
        pass


def test_a_worker_that_answers_no_more_is_noticed_and_one_that_does_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "TICK", 0.005)
    monkeypatch.setattr(workers_module, "SILENCE", 0.05)

    async def scenario() -> None:
        async with fleet() as (hub, workers), member(hub) as (silent, _), member(hub) as (lively, peer):
            peer.handlers[PULSE] = does(lambda: None)
            listening = asyncio.create_task(listen(peer))
            silent.is_ready = lively.is_ready = True
            watching = asyncio.create_task(workers._until_silent(lively))
            await workers._until_silent(silent)
            assert not watching.done()
            watching.cancel()
            await peer.close()
            await listening

    run(scenario())


def test_while_a_worker_loads_it_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "TICK", 0.001)
    monkeypatch.setattr(workers_module, "SILENCE", 0.002)

    async def scenario() -> None:
        async with fleet() as (hub, workers), member(hub) as (loading, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(workers._until_silent(loading), 0.1)

    run(scenario())


@pytest.mark.parametrize(
    ("exits", "worst"), [([0, 0], Exit.DONE), ([0, 3], Exit.CUT_OFF), ([-9, 0], Exit.CUT_OFF), ([3, 1], Exit.FAILED)]
)
def test_the_worst_end_of_a_worker_is_the_servers(exits: list[int], worst: Exit) -> None:
    async def scenario() -> None:
        async with fleet() as (_, workers):
            workers._exits = exits
            assert workers._worst() == worst

    run(scenario())
