from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import scripted
from tests.support.letters import write_letters
from tests.support.links import in_a_process, in_a_thread
from tests.support.loop import run
from tests.support.requests import generate_request, submission

from quire_engine.async_engine import AsyncEngine, RequestOutputs
from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, EngineStopped, ModelNotSupported, Overloaded, PromptTooLong
from quire_engine.sequence import Terms
from quire_engine.stats import Stats
from quire_engine.text.output import Output


@asynccontextmanager
async def engine_in_a_thread(load: str = "load_scripted", **config: Any) -> AsyncIterator[AsyncEngine]:
    engine = await AsyncEngine.start(EngineConfig(**{"skip_tokenizer_init": True} | config), in_a_thread(load))
    try:
        yield engine
    finally:
        await engine.close()


async def collect(outputs: RequestOutputs) -> list[Output]:
    return [output async for output in outputs]


def tokens(outputs: list[Output], index: int = 0) -> list[int]:
    return [token for output in outputs if output.index == index for token in output.token_ids]


async def until(engine: AsyncEngine, reached: Any) -> Stats:
    """Let the loop run until the engine's counters stand as wanted."""
    while not reached(engine.stats):
        await asyncio.sleep(0)
    return engine.stats


def by_itself(*args: Any, **fields: Any) -> list[int]:
    """The answer of an engine that is stepped by hand."""
    engine = scripted.scripted_engine()
    engine.add(submission(0, *args, **fields))
    answer: list[int] = []
    while engine.has_work:
        answer += [token for emission in engine.step() for token in emission.token_ids]
    return answer


def test_an_answer_comes_piece_by_piece_and_ends() -> None:
    async def scenario() -> list[Output]:
        async with engine_in_a_thread() as engine:
            return await collect(await engine.submit(generate_request([1, 2, 3], max_tokens=5)))

    outputs = run(scenario())
    assert tokens(outputs) == by_itself([1, 2, 3], max_tokens=5)
    assert [output.finish_reason for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert outputs[-1].finish_reason == "length"


def test_an_engine_in_a_process_answers_alike() -> None:
    async def scenario() -> list[Output]:
        start = in_a_process()
        engine = await AsyncEngine.start(EngineConfig(skip_tokenizer_init=True), start)
        outputs = await collect(await engine.submit(generate_request([1, 2, 3], max_tokens=5)))
        await engine.close()
        return outputs

    assert tokens(run(scenario())) == by_itself([1, 2, 3], max_tokens=5)


def test_choices_come_as_they_are_computed_and_all_of_them_end() -> None:
    async def scenario() -> list[Output]:
        async with engine_in_a_thread() as engine:
            return await collect(await engine.submit(generate_request([1], n=3, temperature=1, max_tokens=4)))

    outputs = run(scenario())
    assert [len(tokens(outputs, index)) for index in range(3)] == [4, 4, 4]
    assert sum(output.finish_reason is not None for output in outputs) == 3


def test_many_requests_at_once_get_each_its_own_answer() -> None:
    async def scenario() -> list[list[Output]]:
        async with engine_in_a_thread() as engine:
            requests = [generate_request([1 + i, 2, 3], max_tokens=6) for i in range(64)]
            return await asyncio.gather(*[collect(await engine.submit(request)) for request in requests])

    for i, outputs in enumerate(run(scenario())):
        assert tokens(outputs) == by_itself([1 + i, 2, 3], max_tokens=6)


def test_a_request_that_cannot_be_served_is_refused_before_it_has_outputs() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread() as engine:
            with pytest.raises(PromptTooLong):
                await engine.submit(generate_request([1] * 300))
            assert engine.stats.prompt_tokens == 0

    run(scenario())


def test_closing_the_outputs_aborts_the_request_and_ends_the_iteration() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            outputs = await engine.submit(generate_request([1], n=2, temperature=1, max_tokens=None))
            await anext(outputs)
            await outputs.aclose()
            assert await collect(outputs) == []
            stats = await until(engine, lambda stats: stats.finished)
            assert stats.finished == {"abort": 2}
            assert stats.kv_usage == 0

    run(scenario())


def test_leaving_the_context_aborts_what_is_unfinished() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            async with await engine.submit(generate_request([1], max_tokens=None)) as outputs:
                await anext(outputs)
            assert (await until(engine, lambda stats: stats.finished)).finished == {"abort": 1}

    run(scenario())


def test_cancelling_the_reader_aborts_the_request() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            outputs = await engine.submit(generate_request([1], max_tokens=None))
            reader = asyncio.create_task(collect(outputs))
            await until(engine, lambda stats: stats.generation_tokens)
            reader.cancel()
            await asyncio.wait((reader,))
            assert reader.cancelled()
            assert (await until(engine, lambda stats: stats.finished)).finished == {"abort": 1}

    run(scenario())


def test_closing_outputs_that_have_ended_aborts_nothing() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread() as engine:
            outputs = await engine.submit(generate_request([1], max_tokens=2))
            await collect(outputs)
            await outputs.aclose()
            await collect(await engine.submit(generate_request([1], max_tokens=2)))
            assert engine.stats.finished == {"length": 2}

    run(scenario())


def test_what_a_slow_reader_left_waiting_comes_as_one_output() -> None:
    async def scenario() -> list[Output]:
        async with engine_in_a_thread() as engine:
            outputs = await engine.submit(generate_request([1, 2], max_tokens=9, logprobs=0, prompt_logprobs=0))
            await until(engine, lambda stats: stats.finished)
            return await collect(outputs)

    (output,) = run(scenario())
    assert list(output.token_ids) == by_itself([1, 2], max_tokens=9)
    assert [score.token_id for score in output.logprobs] == list(output.token_ids)
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert output.finish_reason == "length"


def test_what_a_taker_takes_wakes_nobody_and_the_end_is_not_offered() -> None:
    async def check() -> None:
        async with engine_in_a_thread() as engine:
            outputs = await engine.submit(generate_request([1, 2], max_tokens=5))
            offered: list[Output] = []
            heard: list[Output] = []

            def take(output: Output) -> bool:
                offered.append(output)
                if len(offered) == 2:
                    return False  # what is left comes as if there were no taker
                heard.append(output)
                return True

            outputs.taker = take
            read = []
            async for output in outputs:
                read.append(output)
                heard.append(output)
            assert tokens(heard) == by_itself([1, 2], max_tokens=5)
            assert offered[0] not in read
            assert tokens(read)[0] == tokens(offered)[1]
            assert heard[-1].finish_reason == "length"
            assert all(output.finish_reason is None for output in offered)

    run(check())


def test_a_taker_is_offered_nothing_while_nobody_waits() -> None:
    async def check() -> None:
        async with engine_in_a_thread() as engine:
            outputs = await engine.submit(generate_request([1, 2], max_tokens=5))
            taken: list[Output] = []
            outputs.taker = lambda output: taken.append(output) is None
            await until(engine, lambda stats: stats.finished.get("length"))
            assert tokens(await collect(outputs)) == by_itself([1, 2], max_tokens=5)
            assert taken == []

    run(check())


def test_a_taker_that_fails_ends_its_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fail(output: Output) -> bool:
        raise LookupError("nowhere to put it")

    async def check() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            broken = await engine.submit(generate_request([1, 2], max_tokens=None))
            sound = await engine.submit(generate_request([3, 4], max_tokens=5))
            broken.taker = fail
            with pytest.raises(LookupError, match="nowhere"):
                await collect(broken)
            assert tokens(await collect(sound)) == [5, 6, 7, 8, 9]
            await until(engine, lambda stats: stats.finished.get("abort"))

    run(check())
    assert "nowhere to put it" in caplog.text


def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_failing") as engine:
            failed = await collect(await engine.submit(generate_request([1], max_tokens=9)))
            assert failed[-1].finish_reason == "error"
            assert len(tokens(failed)) == 2
            good = await collect(await engine.submit(generate_request([1], max_tokens=9)))
            assert len(tokens(good)) == 9

    run(scenario())


def test_an_engine_that_dies_wakes_everyone_and_takes_no_more() -> None:
    async def scenario() -> None:
        start = in_a_process("load_mortal")
        engine = await AsyncEngine.start(EngineConfig(skip_tokenizer_init=True, max_engine_deaths=1), start)
        waiting = [collect(await engine.submit(generate_request([1 + i], max_tokens=9))) for i in range(3)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in ended] == [EngineStopped] * 3
        assert not engine.is_healthy
        with pytest.raises(EngineStopped, match="process ended"):
            await engine.submit(generate_request([1]))
        await engine.close()

    run(scenario())


def test_closing_the_engine_wakes_everyone() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            outputs = await engine.submit(generate_request([1], max_tokens=None))
            assert engine.is_healthy
        with pytest.raises(EngineStopped, match="closed"):
            await collect(outputs)
        assert not engine.is_healthy

    run(scenario())


def test_a_refusal_to_load_comes_through() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_refused"):
            pass

    with pytest.raises(ModelNotSupported, match="teapot"):
        run(scenario())


def test_a_tokenizer_that_cannot_be_read_ends_the_engine_that_came_up_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with engine_in_a_thread(skip_tokenizer_init=False, tokenizer=str(tmp_path)):
            pass

    with pytest.raises(ConfigError):
        run(scenario())


def test_the_text_is_that_of_the_tokens(tmp_path: Path) -> None:
    async def scenario() -> list[Output]:
        config = {"skip_tokenizer_init": False, "tokenizer": write_letters(tmp_path)}
        async with engine_in_a_thread("load_counting", **config) as engine:
            assert engine.tokenizer is not None
            return await collect(await engine.submit(generate_request(engine.tokenizer.encode("a"), max_tokens=4)))

    assert "".join(output.text for output in run(scenario())) == "bcde"


def test_a_stop_string_ends_the_choice_in_the_engine_too(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[Output], Stats]:
        config = {"skip_tokenizer_init": False, "tokenizer": write_letters(tmp_path)}
        async with engine_in_a_thread("load_endless", **config) as engine:
            assert engine.tokenizer is not None
            prompt = engine.tokenizer.encode("a")
            outputs = await collect(await engine.submit(generate_request(prompt, max_tokens=None, stop="fg")))
            return outputs, await until(engine, lambda stats: stats.finished)

    outputs, stats = run(scenario())
    assert "".join(output.text for output in outputs) == "bcde"
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == ("stop", "fg")
    assert stats.finished == {"abort": 1}


def test_a_stop_string_is_found_also_while_nobody_reads(tmp_path: Path) -> None:
    async def scenario() -> Stats:
        config = {"skip_tokenizer_init": False, "tokenizer": write_letters(tmp_path)}
        async with engine_in_a_thread("load_endless", **config) as engine:
            await engine.submit(generate_request([1], max_tokens=None, stop="fg"))
            return await until(engine, lambda stats: stats.finished)

    assert run(scenario()).finished == {"abort": 1}


def test_a_request_that_is_cancelled_ends_with_what_there_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = {"skip_tokenizer_init": False, "tokenizer": write_letters(tmp_path)}
        async with engine_in_a_thread("load_endless", **config) as engine:
            assert engine.tokenizer is not None
            prompt = engine.tokenizer.encode("a")
            request = generate_request(prompt, n=2, temperature=1, max_tokens=None, stop="bcx")  # "bc" is held back
            outputs = await engine.submit(request.model_copy(update={"request_id": "mine"}))
            await until(engine, lambda stats: stats.generation_tokens)
            assert engine.num_requests == 1
            assert engine.cancel({"mine", "nobody's"}) == {"mine"}
            assert engine.cancel({"mine"}) == set()
            assert engine.num_requests == 0
            ended = await collect(outputs)
            assert [output.finish_reason for output in ended] == ["abort", "abort"]
            assert [output.text for output in ended] == [engine.tokenizer.decode(each.token_ids) for each in ended]
            assert (await until(engine, lambda stats: stats.finished)).finished == {"abort": 2}

    run(scenario())


def test_only_its_own_tenants_requests_are_cancelled() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            request = generate_request([1], max_tokens=None).model_copy(update={"request_id": "same"})
            hers = await engine.submit(request, Terms("her"))
            his = await engine.submit(request, Terms("him"))
            assert engine.cancel({"same"}, "them") == set()
            assert engine.cancel({"same"}, "her") == {"same"}
            assert (await collect(hers))[-1].finish_reason == "abort"
            assert (await anext(his)).finish_reason is None
            assert engine.cancel({"same"}) == {"same"}

    run(scenario())


def test_cutting_off_ends_all_requests_with_the_error_and_the_engine_goes_on() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            several = [await engine.submit(generate_request([1], max_tokens=None)) for _ in range(3)]
            engine.cut_off(RuntimeError("enough."))
            for outputs in several:
                with pytest.raises(RuntimeError, match="enough"):
                    await collect(outputs)
            assert (await until(engine, lambda stats: stats.finished)).finished == {"abort": 3}
            assert len(tokens(await collect(await engine.submit(generate_request([1], max_tokens=3))))) == 3

    run(scenario())


# --- the line, and deadlines


def test_a_full_line_refuses_before_there_are_outputs_and_lets_in_again() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_narrow") as engine:
            first = await engine.submit(generate_request([1], max_tokens=None))
            await anext(first)  # it runs, and holds the only seat
            waiting = await engine.submit(generate_request([1], max_tokens=2))
            with pytest.raises(Overloaded, match=r"1 requests are waiting, and the line holds 1") as refusal:
                await engine.submit(generate_request([1]))
            assert refusal.value.retry_after >= 1
            await first.aclose()
            assert tokens(await collect(waiting)) == [2, 3]
            assert tokens(await collect(await engine.submit(generate_request([1], max_tokens=2)))) == [2, 3]

    run(scenario())


def test_a_request_that_is_closed_in_line_gives_its_place_to_the_next() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_narrow") as engine:
            first = await engine.submit(generate_request([1], max_tokens=None))
            await anext(first)
            for _ in range(3):
                await (await engine.submit(generate_request([1]))).aclose()

    run(scenario())


def test_answers_that_end_by_themselves_show_how_long_answers_are_and_others_do_not() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_endless") as engine:
            broken_off = await engine.submit(generate_request([1], max_tokens=None))
            await anext(broken_off)
            await collect(await engine.submit(generate_request([1], n=2, temperature=1, max_tokens=6)))
            broken_off.cancel()
            await (await engine.submit(generate_request([1], max_tokens=None))).aclose()
            assert engine._link.gate.forecast.length.value == 6

    run(scenario())


def test_a_deadline_ends_who_runs_and_who_waits() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread("load_narrow") as engine:
            soon = Terms(deadline=time.monotonic() + 0.4)
            running = await engine.submit(generate_request([1], max_tokens=None), soon)
            waiting = await engine.submit(generate_request([1], max_tokens=None), soon)
            outputs = [await collect(running), await collect(waiting)]
            assert [each[-1].finish_reason for each in outputs] == ["timeout", "timeout"]
            assert tokens(outputs[0])
            assert not tokens(outputs[1])

    run(scenario())


def test_a_request_knows_when_what_happened_to_it() -> None:
    async def scenario() -> None:
        async with engine_in_a_thread() as engine:
            outputs = await engine.submit(generate_request([1, 2, 3], n=2, temperature=1, max_tokens=4))
            assert outputs.timing.scheduled is None
            await collect(outputs)
            timing = outputs.timing
            moments = [timing.arrived, timing.scheduled, timing.first_token, timing.last_token, timing.finished]
            assert None not in moments
            assert moments == sorted(moments)  # type: ignore[type-var]
            assert (timing.prompt_tokens, timing.generation_tokens) == (3, 8)

    run(scenario())
