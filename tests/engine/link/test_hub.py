"""Several front ends share one engine: each sees what it would see alone, whatever befalls the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from tests.support.links import Start, each_kind, in_a_process, in_a_thread
from tests.support.loop import run
from tests.support.requests import generate_request, submission

from quire_engine.async_engine import AsyncEngine, RequestOutputs
from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, EngineStopped, Overloaded, RequestError
from quire_engine.link import hub as hub_module
from quire_engine.link.base import Link
from quire_engine.link.frames import Add, encode
from quire_engine.link.gated import GatedLink
from quire_engine.link.hub import HANDLE_BITS, Hub, Member
from quire_engine.link.peer import Begin, Peer, PeerGone
from quire_engine.link.process import ProcessLink
from quire_engine.link.remote import RemoteLink
from quire_engine.sequence import Terms

LONG = generate_request([1, 2, 3], max_tokens=200)
PATIENCE = 20.0


@dataclass
class Shared:
    """One engine and its front ends."""

    hub: Hub
    config: EngineConfig
    fronts: list[AsyncEngine]

    async def join(self) -> AsyncEngine:
        """One more front end."""
        ours, theirs = socket.socketpair()
        await self.hub.join(ours, b"brief")
        peer = await Peer.over(theirs)
        begin = await peer.receive()
        assert isinstance(begin, Begin)
        assert begin.brief == b"brief"
        front = await AsyncEngine.over(RemoteLink.over(peer), begin.config)
        self.fronts.append(front)
        return front


@asynccontextmanager
async def shared(start: Start, fronts: int = 2, **config: Any) -> AsyncIterator[Shared]:
    """An engine with so many front ends."""
    asked = EngineConfig(**{"skip_tokenizer_init": True} | config)
    hub = Hub(asked)
    hub.open(await GatedLink.start(asked, start))
    all_of_it = Shared(hub, asked, [])
    try:
        for _ in range(fronts):
            await all_of_it.join()
        yield all_of_it
    finally:
        for front in all_of_it.fronts:
            await front.close()
        await hub.close()


async def ids(outputs: RequestOutputs) -> list[int]:
    return [token async for output in outputs for token in output.token_ids]


async def asked(front: AsyncEngine) -> list[int]:
    return await ids(await front.submit(LONG))


async def alone(start: Start, **config: Any) -> list[int]:
    """What LONG gives on an engine of its own."""
    engine = await AsyncEngine.start(EngineConfig(skip_tokenizer_init=True, **config), start)
    try:
        return await ids(await engine.submit(LONG))
    finally:
        await engine.close()


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.001)


@each_kind
def test_every_front_end_gets_what_an_engine_of_its_own_would_give(kind: Callable[[], Start]) -> None:
    async def scenario() -> None:
        async with shared(kind(), fronts=3) as one:
            asked = [await front.submit(LONG) for front in one.fronts for _ in range(2)]
            wanted = await alone(in_a_thread())
            assert await asyncio.gather(*map(ids, asked)) == [wanted] * 6

    run(scenario())


def test_who_leaves_ends_its_own_request_only() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_endless")) as one:
            first, second = [await front.submit(generate_request([1], max_tokens=None)) for front in one.fronts]
            await anext(first)
            await anext(second)
            await first.aclose()
            await until(lambda: one.hub.stats.finished.get("abort") == 1)
            assert (one.hub.stats.running, one.fronts[1].num_requests) == (1, 1)
            await anext(second)

    run(scenario())


def test_what_a_front_end_was_at_ends_when_that_goes_and_the_others_feel_nothing() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_endless")) as one:
            member = one.hub.members[0]
            lost = [await one.fronts[0].submit(generate_request([1], n=2, max_tokens=None)) for _ in range(2)]
            stays = await one.fronts[1].submit(generate_request([1], max_tokens=None))
            await anext(stays)
            await one.fronts[0].close()
            await member.has_left.wait()
            await until(lambda: one.hub.stats.finished.get("abort") == 4)
            assert one.hub.stats.running == 1
            assert one.hub.link.gate.waiting == 0
            await anext(stays)
            with pytest.raises(EngineStopped):
                await ids(lost[0])

    run(scenario())


def test_a_front_end_that_comes_later_has_handles_of_its_own() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread(), fronts=1) as one:
            await one.fronts[0].submit(LONG)
            await one.fronts[0].close()
            assert await ids(await (await one.join()).submit(LONG)) == await alone(in_a_thread())

    run(scenario())


def test_streams_of_all_go_on_after_their_engine_was_killed() -> None:
    async def scenario() -> None:
        async with shared(in_a_process()) as one:
            asked = [await front.submit(LONG) for front in one.fronts]
            begun = [(await anext(outputs)).token_ids for outputs in asked]
            link = one.hub.link.link._link
            assert isinstance(link, ProcessLink)
            link._child._process.kill()
            wanted = await alone(in_a_thread())
            for before, outputs in zip(begun, asked, strict=True):
                assert [*before, *await ids(outputs)] == wanted
            await until(lambda: all((front.state, front.restarts) == ("ready", 1) for front in one.fronts))

    run(scenario())


def test_an_engine_that_ends_for_good_ends_all_front_ends_with_its_reason() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_stumbling")) as one:
            for told in await asyncio.gather(*map(asked, one.fronts), return_exceptions=True):
                assert isinstance(told, EngineStopped)
                assert "the floor is gone" in str(told)
            for front in one.fronts:
                assert "the floor is gone" in await front.until_stopped()
                assert front.state == "stopped"
            assert "the floor is gone" in await one.hub.until_stopped()
            late = await one.join()
            await late.until_stopped()
            with pytest.raises(EngineStopped, match="the floor is gone"):
                await late.submit(LONG)

    run(scenario())


def test_a_hub_that_goes_ends_its_front_ends() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_endless")) as one:
            outputs = await one.fronts[0].submit(generate_request([1], max_tokens=None))
            for member in one.hub.members:
                member.peer.abort()
            with pytest.raises(EngineStopped, match="process that has the engine is gone"):
                await ids(outputs)
            with pytest.raises(EngineStopped):
                await one.fronts[1].sleep()

    run(scenario())


def test_one_line_bounds_the_requests_of_all() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_narrow"), max_num_queued_reqs=1) as one:
            running = await one.fronts[0].submit(generate_request([1], max_tokens=None))
            await anext(running)
            await one.fronts[0].submit(generate_request([1]))
            with pytest.raises(Overloaded, match="max_num_queued_reqs") as refusal:
                await one.fronts[1].submit(generate_request([1]))
            assert refusal.value.limit == "max_num_queued_reqs"
            assert refusal.value.retry_after >= 1
            assert one.fronts[1].num_requests == 0

    run(scenario())


def test_a_deadline_is_the_same_moment_on_either_side() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_narrow")) as one:
            outputs = await one.fronts[1].submit(
                generate_request([1], max_tokens=None), Terms(deadline=monotonic() + 0.2)
            )
            assert [each async for each in outputs][-1].finish_reason == "timeout"

    run(scenario())


def test_the_gate_hears_how_long_answers_are_that_ended_in_front_ends() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_endless")) as one:
            await ids(await one.fronts[1].submit(generate_request([1], max_tokens=6)))
            await until(lambda: one.hub.link.gate.forecast.length.value == 6)
            assert one.hub.members[1].handles == set()

    run(scenario())


def test_a_request_that_is_given_up_while_it_is_let_in_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread("load_endless")) as one:
            joining = asyncio.create_task(one.fronts[0].submit(generate_request([1], max_tokens=None)))
            await asyncio.sleep(0)
            joining.cancel()
            await asyncio.wait((joining,))
            assert joining.cancelled()
            await until(lambda: one.hub.stats.finished.get("abort") == 1)
            assert (one.hub.members[0].handles, one.fronts[0].num_requests) == (set(), 0)

    run(scenario())


def test_a_request_that_cannot_cross_is_refused_and_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with shared(in_a_process("load_steered")) as one:
            for steered in (10**30, object()):
                with pytest.raises(RequestError, match="cannot be passed on to the engine"):
                    await one.fronts[0].submit(generate_request([1, 2, 3], extra_args={"steer": steered}))
            assert await ids(await one.fronts[0].submit(LONG))
            assert one.hub.link.gate.waiting == 0

    run(scenario())


def test_sleep_and_waking_up_are_for_all() -> None:
    async def scenario() -> None:
        async with shared(in_a_process()) as one:
            await one.fronts[0].sleep()
            assert one.fronts[0].is_sleeping
            await until(lambda: one.fronts[1].is_sleeping)
            waiting = await one.fronts[0].submit(LONG)
            await one.fronts[1].wake_up()
            assert one.fronts[1].state == "ready"
            assert await ids(waiting) == await alone(in_a_thread())

    run(scenario())


def test_why_it_cannot_be_woken_up_is_told_where_that_was_asked() -> None:
    async def scenario() -> None:
        first = [in_a_process()]

        async def start(config: EngineConfig, *, progress: bool) -> Link:
            return await (first.pop() if first else in_a_process("load_refused"))(config, progress=progress)

        async with shared(start) as one:
            await one.fronts[1].sleep()
            with pytest.raises(ConfigError, match=r"^this model is a teapot$"):
                await one.fronts[1].wake_up()
            assert one.fronts[1].is_sleeping

    run(scenario())


def test_who_resets_the_prefix_cache_hears_of_it_each_its_own() -> None:
    async def scenario() -> None:
        async with shared(in_a_thread()) as one:
            asked = [front.reset_prefix_cache() for front in one.fronts for _ in range(2)]
            assert await asyncio.gather(*asked) == [True] * 4

    run(scenario())


def test_front_ends_are_asked_and_those_that_are_silent_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async def hush(body: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def echo(body: bytes) -> bytes:
        return body[::-1]

    async def scenario() -> None:
        async with shared(in_a_thread(), fronts=3) as one:
            for front, handler in zip(one.fronts, (echo, hush, echo), strict=True):
                assert isinstance(front._link, RemoteLink)
                front._link.peer.handlers["echo"] = handler
            told = await one.hub.ask_all("echo", b"abc", patience=0.2, of=one.hub.members)
            assert [(member.number, answer) for member, answer in told] == [(1, b"cba"), (3, b"cba")]

    run(scenario())
    assert "A front end did not answer (echo)" in caplog.text


def test_members_ask_whoever_owns_the_hub_and_his_errors_are_raised_there() -> None:
    async def number(member: Member, body: bytes) -> bytes:
        if body:
            raise RequestError("no words, please.", param="body")
        return str(member.number).encode()

    async def scenario() -> None:
        async with shared(in_a_thread(), fronts=0) as one:
            one.hub.questions["number"] = number
            await one.join()
            peer = (await one.join())._link.peer  # type: ignore[attr-defined]
            assert await peer.ask("number") == b"2"
            with pytest.raises(RequestError, match="no words") as refusal:
                await peer.ask("number", b"why?")
            assert refusal.value.param == "body"

    run(scenario())


def test_a_question_that_is_on_its_way_when_the_other_end_goes_is_answered_by_that() -> None:
    async def hush(body: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def scenario() -> None:
        async with shared(in_a_thread(), fronts=1) as one:
            one.fronts[0]._link.peer.handlers["hush"] = hush  # type: ignore[attr-defined]
            (member,) = one.hub.members
            asking = asyncio.create_task(member.peer.ask("hush"))
            await asyncio.sleep(0)
            await one.fronts[0].close()
            with pytest.raises(PeerGone):
                await asking
            with pytest.raises(PeerGone):
                await member.peer.ask("hush")

    run(scenario())


def test_a_front_end_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_UNREAD", 1 << 12)

    async def scenario() -> None:
        async with shared(in_a_thread("load_endless"), fronts=0) as one:
            ours, theirs = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
            with theirs:
                member = await one.hub.join(ours, b"")
                first = member.number << HANDLE_BITS
                for handle in range(first, first + 8):
                    theirs.sendall(encode(Add(submission(handle, [1], max_tokens=None))))
                await asyncio.wait_for(member.has_left.wait(), PATIENCE)
                await until(lambda: one.hub.stats.finished.get("abort") == 8)

    run(scenario())
