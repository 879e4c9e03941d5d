"""Both links keep the same promises; what only a process can do stands below."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support import scripted
from tests.support.loop import run
from tests.support.requests import submission

from quire_engine.config import EngineConfig
from quire_engine.errors import EngineStopped, ModelNotSupported
from quire_engine.link.base import Link
from quire_engine.link.frames import PREFIX, Abort, Add, Beat, Report
from quire_engine.link.process import ProcessLink, _connection
from quire_engine.link.thread import ThreadLink
from quire_engine.sequence import Emission

Starter = Callable[..., Awaitable[Link]]


async def in_a_thread(load: str = "load_scripted", **config: Any) -> Link:
    return await ThreadLink.start(EngineConfig(**config), factory=getattr(scripted, load))


async def in_a_process(load: str = "load_scripted", **config: Any) -> Link:
    return await ProcessLink.start(EngineConfig(**config), factory=f"tests.support.scripted:{load}")


each_link = pytest.mark.parametrize("start", [in_a_thread, in_a_process])


async def reports(link: Link, choices: int) -> list[Report]:
    """Everything until so many choices have finished."""
    received: list[Report] = []
    while choices:
        received.append(await link.receive())
        choices -= sum(emission.finish_reason is not None for emission in received[-1].emissions)
    return received


async def listen(link: Link) -> None:
    """Receive until the engine ends."""
    while True:
        await link.receive()


def told(received: list[Report]) -> dict[tuple[int, int], list[int]]:
    tokens: dict[tuple[int, int], list[int]] = {}
    for report in received:
        for emission in report.emissions:
            tokens.setdefault((emission.handle, emission.index), []).extend(emission.token_ids)
    return tokens


REQUESTS = [
    submission(0, [1, 2, 3], max_tokens=4),
    submission(1, [1, 2, 3, 4, 5, 6, 7, 8, 9], n=2, temperature=1, max_tokens=3),
]


@each_link
def test_answers_are_those_of_the_engine_itself(start: Starter) -> None:
    async def scenario() -> dict[tuple[int, int], list[int]]:
        link = await start(seed=5)
        for request in REQUESTS:
            link.send(Add(request))
        received = await reports(link, 3)
        await link.close()
        return told(received)

    engine = scripted.scripted_engine(seed=5)
    for request in REQUESTS:
        engine.add(request)
    emissions: list[Emission] = []
    while engine.has_work:
        emissions += engine.step()
    assert run(scenario()) == told([Report(emissions, engine.stats())])


@each_link
def test_the_configuration_arrives_and_the_decisions_come_back(start: Starter) -> None:
    async def scenario() -> int:
        link = await start(max_model_len=77)
        await link.close()
        return link.decisions.max_model_len

    assert run(scenario()) == 77


@each_link
def test_each_step_is_one_report_and_says_how_the_engine_stands(start: Starter) -> None:
    async def scenario() -> None:
        link = await start()
        link.send(Add(submission(0, [1, 2, 3], max_tokens=3)))
        received = await reports(link, 1)
        assert [len(report.emissions) for report in received] == [1, 1, 1]
        assert received[0].stats.running == 1
        assert received[-1].stats.finished == {"length": 1}
        await link.close()

    run(scenario())


@each_link
def test_an_abort_is_heard_and_what_is_left_is_free(start: Starter) -> None:
    async def scenario() -> None:
        link = await start("load_endless")
        link.send(Add(submission(0, [1, 2, 3], max_tokens=None)))
        await link.receive()
        link.send(Abort(0))
        while (report := await link.receive()).stats.running:
            pass
        assert report.emissions == []
        assert report.stats.kv_usage == 0
        await link.close()

    run(scenario())


@each_link
def test_a_refusal_to_load_keeps_its_kind_and_its_words(start: Starter) -> None:
    with pytest.raises(ModelNotSupported, match=r"^this model is a teapot$"):
        run(start("load_refused"))  # type: ignore[arg-type]


@each_link
def test_loading_that_fails_is_an_engine_that_stopped(start: Starter) -> None:
    with pytest.raises(EngineStopped, match="could not be loaded: no memory left"):
        run(start("load_broken"))  # type: ignore[arg-type]


@each_link
def test_an_engine_that_ends_by_itself_says_why(start: Starter) -> None:
    async def scenario() -> None:
        link = await start()
        for _ in range(2):
            link.send(Add(submission(0, [1, 2, 3], max_tokens=200)))  # one handle twice is our own mistake
        with pytest.raises(EngineStopped, match="handle 0 is taken"):
            await listen(link)
        await link.close()

    run(scenario())


@each_link
def test_closing_while_requests_are_answered_ends_the_engine(start: Starter) -> None:
    async def scenario() -> None:
        link = await start("load_endless")
        link.send(Add(submission(0, [1, 2, 3], max_tokens=None)))
        await link.receive()
        await link.close()
        with pytest.raises(EngineStopped):
            await listen(link)

    run(scenario())


def test_a_child_that_is_killed_is_an_engine_that_stopped() -> None:
    async def scenario() -> None:
        link = await in_a_process("load_mortal")
        link.send(Add(submission(0, [1, 2, 3])))
        with pytest.raises(EngineStopped, match=f"signal {signal.SIGKILL}"):
            await listen(link)
        await link.close()

    run(scenario())


def test_a_child_that_cannot_read_a_command_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        link = await in_a_process()
        assert isinstance(link, ProcessLink)
        link._child._writer.write(PREFIX.pack(1) + b"\xc1")  # which no MessagePack has
        with pytest.raises(EngineStopped, match="exit code 1"):
            await listen(link)
        await link.close()

    run(scenario())
    assert "A command could not be read" in caplog.text


def test_a_child_that_has_nothing_to_do_says_so_time_and_again() -> None:
    async def scenario() -> None:
        link = await in_a_process()
        assert isinstance(link, ProcessLink)
        assert [await link._child.receive() for _ in range(3)] == [Beat(None)] * 3
        await link.close()

    run(scenario())


def test_a_child_that_does_not_come_back_from_a_step_says_at_whom_it_is() -> None:
    async def scenario() -> None:
        link = await ProcessLink.start(EngineConfig(), factory="tests.support.faults:load_hanging")
        link.send(Add(submission(3, [66, 2, 3], max_tokens=4)))
        while not (isinstance(message := await link._child.receive(), Beat) and message.handles):
            pass
        assert message.turn is not None
        assert message.handles == (3,)
        link._child.kill()
        await link.close()

    run(scenario())


def test_a_child_that_never_connects_is_an_engine_that_stopped() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setblocking(False)
            listener.bind("")  # a name that nobody knows
            listener.listen(1)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
            with pytest.raises(EngineStopped, match=r"before it had begun \(exit code 3\)"):
                await _connection(listener, process)

    run(scenario())


def test_a_start_that_is_cancelled_leaves_no_child() -> None:
    async def scenario() -> None:
        starting = asyncio.create_task(in_a_process())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    run(scenario())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_child_ends_with_its_parent() -> None:
    parent = (
        "import asyncio, os\n"
        "from tests.engine.link.test_links import in_a_process\n"
        "asyncio.run(in_a_process())\n"
        "os._exit(0)"
    )
    # The child inherits stdout: it reads as ended only once parent and child are both gone.
    subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, check=True, timeout=60)


def test_the_keyboard_interrupt_of_a_terminal_is_the_parents_to_judge() -> None:
    async def scenario() -> None:
        link = await in_a_process()
        assert isinstance(link, ProcessLink)
        link._child._process.send_signal(signal.SIGINT)
        link.send(Add(submission(0, [1, 2, 3], max_tokens=2)))
        assert len(await reports(link, 1)) == 2
        await link.close()

    run(scenario())
