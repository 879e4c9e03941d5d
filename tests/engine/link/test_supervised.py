"""An engine that ends by itself is a pause to those who wait. Requests, tokens and processes; no text."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

import pytest
from tests.support import scripted
from tests.support.links import Start, each_kind, in_a_process, in_a_thread
from tests.support.loop import run
from tests.support.requests import generate_request

from quire_engine.async_engine import AsyncEngine, RequestOutputs
from quire_engine.config import Decisions, EngineConfig
from quire_engine.errors import EngineStopped, ModelNotSupported, RequestError
from quire_engine.link import supervised, watch
from quire_engine.link.base import Link
from quire_engine.link.frames import Report
from quire_engine.link.process import Child, ProcessLink
from quire_engine.link.thread import ThreadLink
from quire_engine.link.watch import Watch
from quire_engine.sequence import Terms
from quire_engine.text.output import Output


@asynccontextmanager
async def engine(start: Start, **config: Any) -> AsyncIterator[AsyncEngine]:
    started = await AsyncEngine.start(EngineConfig(**{"skip_tokenizer_init": True} | config), start)
    try:
        yield started
    finally:
        await started.close()


def send(engine: AsyncEngine, number: signal.Signals) -> None:
    """Send the engine's process a signal."""
    link = engine._link.link._link
    assert isinstance(link, ProcessLink)
    link._child._process.send_signal(number)


def kill(engine: AsyncEngine) -> None:
    """End the engine's process at once."""
    send(engine, signal.SIGKILL)


async def collect(outputs: RequestOutputs) -> list[Output]:
    return [output async for output in outputs]


async def state(engine: AsyncEngine, *wanted: str) -> None:
    """Let the loop run until the engine is in one of these states."""
    while engine.state not in wanted:
        await asyncio.sleep(0.001)


def ids(outputs: list[Output]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


LONG = generate_request([1, 2, 3], max_tokens=200)


async def undisturbed() -> list[int]:
    async with engine(in_a_thread()) as one:
        return ids(await collect(await one.submit(LONG)))


def test_a_stream_goes_on_after_its_engine_was_killed() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            outputs = await one.submit(LONG)
            begun = [await anext(outputs)]
            kill(one)
            assert ids(begun + await collect(outputs)) == await undisturbed()
            assert (one.state, one.restarts) == ("ready", 1)

    run(scenario())


def test_a_request_that_comes_while_there_is_no_engine_waits_for_the_next_one() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            kill(one)
            await state(one, "restarting")
            assert one.is_healthy
            assert ids(await collect(await one.submit(LONG))) == await undisturbed()

    run(scenario())


def test_closing_outputs_while_there_is_no_engine_ends_the_request() -> None:
    async def scenario() -> None:
        async with engine(in_a_process("load_endless")) as one:
            outputs = await one.submit(generate_request([1], n=2, temperature=1, max_tokens=None))
            await anext(outputs)
            kill(one)
            await state(one, "restarting")
            await outputs.aclose()
            await state(one, "ready")
            assert one.stats.finished == {"abort": 2}
            assert (one.stats.running, one.stats.waiting) == (0, 0)

    run(scenario())


def test_an_engine_that_ends_too_often_is_not_started_again() -> None:
    async def scenario() -> None:
        async with engine(in_a_process("load_mortal"), max_engine_deaths=2) as one:
            outputs = await one.submit(LONG)
            with pytest.raises(EngineStopped, match=r"process ended .* makes 2 within 600 seconds"):
                await collect(outputs)
            assert (one.state, one.restarts) == ("stopped", 1)
            assert "makes 2" in await one.until_stopped()
            with pytest.raises(EngineStopped):
                await one.wake_up()

    run(scenario())


def test_an_engine_in_a_thread_ends_with_its_first_failure() -> None:
    async def scenario() -> None:
        async with engine(in_a_thread("load_stumbling")) as one:
            outputs = await one.submit(LONG)
            with pytest.raises(EngineStopped, match="the floor is gone"):
                await collect(outputs)
            assert one.state == "stopped"

    run(scenario())


def test_an_engine_that_cannot_be_started_again_counts_as_one_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "PAUSE", 0.0)

    async def scenario() -> None:
        first = [in_a_process()]

        async def start(config: EngineConfig, *, progress: bool) -> Link:
            return await (first.pop() if first else in_a_process("load_broken"))(config, progress=progress)

        async with engine(start) as one:
            outputs = await one.submit(LONG)
            kill(one)
            with pytest.raises(EngineStopped, match=r"could not be started again: .*no memory left.* makes 3"):
                await collect(outputs)

    run(scenario())


@each_kind
def test_a_sleeping_engine_keeps_its_requests_waiting(kind: Callable[[], Start]) -> None:
    async def scenario() -> None:
        async with engine(kind()) as one:
            outputs = await one.submit(LONG)
            begun = [await anext(outputs)]
            await one.sleep()
            assert one.is_sleeping
            assert one.stats.running == 0
            late = await one.submit(LONG)
            await one.wake_up()
            assert one.state == "ready"
            assert ids(begun + await collect(outputs)) == ids(await collect(late)) == await undisturbed()
            assert one.restarts == 0

    run(scenario())


def test_sleep_gives_the_process_back() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            link = one._link.link._link
            assert isinstance(link, ProcessLink)
            await one.sleep()
            assert link._child._process.returncode == 0

    run(scenario())


def test_sleeping_and_waking_twice_are_no_error() -> None:
    async def scenario() -> None:
        async with engine(in_a_thread()) as one:
            await one.wake_up()
            await asyncio.gather(one.sleep(), one.sleep())
            await asyncio.gather(one.wake_up(), one.wake_up())
            assert one.state == "ready"

    run(scenario())


@each_kind
def test_an_engine_that_cannot_be_woken_up_sleeps_on(kind: Callable[[str], Start]) -> None:
    async def scenario() -> None:
        loads = ["load_scripted", "load_broken", "load_refused", "load_scripted"]

        async def start(config: EngineConfig, *, progress: bool) -> Link:
            return await kind(loads.pop(0))(config, progress=progress)

        async with engine(start, max_engine_deaths=1) as one:
            outputs = await one.submit(LONG)
            await one.sleep()
            for refusal, words in ((EngineStopped, "no memory left"), (ModelNotSupported, "teapot")):
                with pytest.raises(refusal, match=words):
                    await one.wake_up()
                assert one.is_sleeping
            await one.wake_up()
            assert ids(await collect(outputs)) == await undisturbed()

    run(scenario())


def test_an_engine_that_is_put_to_sleep_while_it_is_started_again_sleeps() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            kill(one)
            await state(one, "restarting")
            await one.sleep()
            assert one.is_sleeping
            await one.wake_up()
            assert ids(await collect(await one.submit(LONG))) == await undisturbed()

    run(scenario())


def test_a_deadline_ends_a_request_that_waits_for_a_sleeping_engine() -> None:
    async def scenario() -> None:
        async with engine(in_a_thread()) as one:
            await one.sleep()
            outputs = await one.submit(LONG, Terms(deadline=monotonic() + 0.01))
            (output,) = await collect(outputs)
            assert output.finish_reason == "timeout"
            assert one.is_sleeping

    run(scenario())


@pytest.mark.parametrize("turn", ["sleep", "wake_up", "reset_prefix_cache"])
def test_a_closed_engine_does_nothing_more(turn: str) -> None:
    async def scenario() -> None:
        async with engine(in_a_thread()) as one:
            pass
        with pytest.raises(EngineStopped, match="closed"):
            await getattr(one, turn)()

    run(scenario())


def test_closing_a_sleeping_engine_wakes_everyone() -> None:
    async def scenario() -> None:
        async with engine(in_a_thread()) as one:
            await one.sleep()
            outputs = await one.submit(LONG)
        with pytest.raises(EngineStopped, match="closed"):
            await collect(outputs)

    run(scenario())


@each_kind
def test_after_a_reset_nothing_is_found_in_the_prefix_cache(kind: Callable[[], Start]) -> None:
    async def scenario() -> None:
        async with engine(kind()) as one:
            prompt = generate_request(range(1, 40), max_tokens=1)
            first, again = [(await collect(await one.submit(prompt)))[0].cached_tokens for _ in range(2)]
            assert (first, again) == (0, 36)
            assert await one.reset_prefix_cache()
            assert (await collect(await one.submit(prompt)))[0].cached_tokens == 0

    run(scenario())


def test_a_reset_leaves_running_requests_their_blocks() -> None:
    async def scenario() -> None:
        async with engine(in_a_thread()) as one:
            outputs = await one.submit(LONG)
            begun = [await anext(outputs)]
            await one.reset_prefix_cache()
            assert ids(begun + await collect(outputs)) == await undisturbed()

    run(scenario())


def test_a_reset_that_an_engine_did_not_live_to_do_is_done() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            kill(one)
            assert await one.reset_prefix_cache()

    run(scenario())


async def only_the_culprit_ends(start: Start, **config: Any) -> None:
    """A prompt that begins with 66 ends the engine twice; the others say what they say without it."""
    async with engine(start, **config) as one:
        asked = [await one.submit(generate_request([first, 5], max_tokens=9)) for first in (1, 66, 2, 3)]
        answers = await asyncio.gather(*map(collect, asked))
        assert [answer[-1].finish_reason for answer in answers] == ["length", "error", "length", "length"]
        assert "again when it computed it alone" in (answers[1][-1].error or "")
        assert one.restarts == 2
    async with engine(in_a_process()) as well:
        for first, answer in zip((1, 2, 3), (answers[0], *answers[2:]), strict=True):
            wanted = await collect(await well.submit(generate_request([first, 5], max_tokens=9)))
            assert ids(answer) == ids(wanted)


def test_a_request_by_which_the_device_is_lost_is_found_and_the_others_go_on() -> None:
    start = partial(ProcessLink.start, factory="tests.support.faults:load_fatal")
    run(only_the_culprit_ends(start, max_engine_deaths=3))


def test_a_request_that_takes_the_process_along_is_found_and_the_others_go_on() -> None:
    async def scenario() -> None:
        async with engine(in_a_process("load_toxic")) as one:
            asked = [await one.submit(generate_request([first, 5], max_tokens=9)) for first in (1, 66, 2, 3)]
            answers = await asyncio.gather(*map(collect, asked))
            assert [answer[-1].finish_reason for answer in answers] == ["length", "error", "length", "length"]
            assert one.restarts == 3
        async with engine(in_a_thread()) as well:
            for first, answer in zip((1, 2, 3), (answers[0], *answers[2:]), strict=True):
                wanted = await collect(await well.submit(generate_request([first, 5], max_tokens=9)))
                assert ids(answer) == ids(wanted)

    run(scenario())


def test_after_a_start_that_failed_the_next_one_waits_and_longer_after_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "PAUSE", 0.1)
    begun: list[float] = []

    async def scenario() -> None:
        first = [in_a_process()]

        async def start(config: EngineConfig, *, progress: bool) -> Link:
            begun.append(monotonic())
            if first:
                return await first.pop()(config, progress=progress)
            raise EngineStopped("no memory left")

        async with engine(start, max_engine_deaths=4) as one:
            kill(one)
            await one.until_stopped()

    run(scenario())
    _, second, third, fourth = begun
    assert third - second >= 0.1
    assert fourth - third >= 0.2


def test_where_one_after_the_other_is_to_blame_it_is_the_machine() -> None:
    async def scenario() -> None:
        start = partial(ProcessLink.start, factory="tests.support.faults:load_doomed")
        async with engine(start, max_engine_deaths=3) as one:
            asked = [await one.submit(generate_request([first, 5], max_tokens=9)) for first in range(1, 9)]
            ended = await asyncio.gather(*map(collect, asked), return_exceptions=True)
            assert sum(isinstance(error, EngineStopped) for error in ended) >= 5
            assert one.state == "stopped"

    run(scenario())


# --- what hangs


def test_an_engine_that_is_stopped_is_ended_and_its_streams_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "SILENCE", 4.0)

    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            outputs = await one.submit(LONG)
            begun = [await anext(outputs)]
            send(one, signal.SIGSTOP)
            assert ids(begun + await collect(outputs)) == await undisturbed()
            assert (one.state, one.restarts) == ("ready", 1)

    run(scenario())
    assert "gave no sign of life for 4 seconds" in caplog.text


def test_a_request_by_which_a_step_never_ends_is_found_and_the_others_go_on() -> None:
    start = partial(ProcessLink.start, factory="tests.support.faults:load_hanging")
    run(only_the_culprit_ends(start, engine_step_timeout=2, max_engine_deaths=2))


# --- what cannot be passed on, and what cannot be taken in


ENORMOUS = generate_request([1, 2, 3], extra_args={"steer": 10**30})


def test_a_request_that_cannot_be_passed_on_is_refused_and_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with engine(in_a_process("load_steered")) as one:
            for _ in range(2):
                with pytest.raises(RequestError, match="cannot be passed on to the engine"):
                    await one.submit(ENORMOUS)
            assert (one.num_requests, one._link.gate.waiting) == (0, 0)
            outputs = await one.submit(LONG)
            begun = [await anext(outputs)]
            kill(one)
            assert ids(begun + await collect(outputs)) == await undisturbed()

    run(scenario())


def test_a_request_that_cannot_be_passed_on_to_the_next_engine_ends_alone() -> None:
    async def scenario() -> None:
        async with engine(in_a_process("load_steered")) as one:
            await one.sleep()
            refused, asked = await one.submit(ENORMOUS), await one.submit(LONG)
            await one.wake_up()
            (output,) = await collect(refused)
            assert output.finish_reason == "error"
            assert "cannot be passed on" in (output.error or "")
            assert ids(await collect(asked)) == await undisturbed()

    run(scenario())


def test_extra_arguments_that_nobody_takes_are_not_passed_on() -> None:
    async def scenario() -> None:
        async with engine(in_a_process()) as one:
            request = generate_request([1, 2, 3], max_tokens=200, extra_args={"steer": 10**30})
            assert ids(await collect(await one.submit(request))) == await undisturbed()

    run(scenario())


class Confused(ThreadLink):
    """Tells of a reset that nobody has asked for."""

    async def receive(self) -> Report:
        report = await super().receive()
        return Report(report.emissions, report.stats, resets=1)


def test_a_report_that_cannot_be_taken_in_ends_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with engine(partial(Confused.start, factory=scripted.load_scripted)) as one:
            outputs = await one.submit(LONG)
            with pytest.raises(EngineStopped, match=r"could not be taken in \(IndexError"):
                await collect(outputs)
            assert "IndexError" in await one.until_stopped()
            assert (one.state, one.is_healthy) == ("stopped", False)

    run(scenario())
    assert "A report of the engine could not be taken in" in caplog.text


# --- what is broken off


def test_a_wake_up_that_was_given_up_leaves_no_refusal_for_the_next() -> None:
    async def scenario() -> None:
        loads, given_up = ["load_scripted", "load_broken", "load_scripted"], asyncio.Event()

        async def start(config: EngineConfig, *, progress: bool) -> Link:
            if (load := loads.pop(0)) == "load_broken":
                await given_up.wait()
            return await in_a_thread(load)(config, progress=progress)

        async with engine(start) as one:
            await one.sleep()
            waking = asyncio.create_task(one.wake_up())
            await state(one, "starting")
            waking.cancel()
            await asyncio.wait((waking,))
            given_up.set()
            await state(one, "sleeping")
            await one.wake_up()
            assert one.state == "ready"

    run(scenario())


class Lingering(ProcessLink):
    """Takes as long to close as the test wants."""

    def __init__(self, decisions: Decisions, child: Child, watch: Watch) -> None:
        super().__init__(decisions, child, watch)
        self.may_close = asyncio.Event()
        self.is_closing = self.is_closed = False

    async def close(self) -> None:
        self.is_closing = True
        await self.may_close.wait()
        await super().close()
        self.is_closed = True


def test_a_link_is_closed_also_where_that_was_broken_off() -> None:
    async def scenario() -> None:
        start = partial(Lingering.start, factory="tests.support.scripted:load_scripted")
        async with engine(start) as one:
            link = one._link.link._link
            assert isinstance(link, Lingering)
            kill(one)
            while not link.is_closing:
                await asyncio.sleep(0)
            link.may_close.set()
        assert link.is_closed

    run(scenario())


def test_closing_that_was_broken_off_can_be_done_again() -> None:
    async def scenario() -> None:
        start = partial(Lingering.start, factory="tests.support.scripted:load_scripted")
        async with engine(start) as one:
            link = one._link.link._link
            assert isinstance(link, Lingering)
            closing = asyncio.create_task(one._link.close())
            while not link.is_closing:
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait((closing,))
            link.may_close.set()
        assert link.is_closed

    run(scenario())
