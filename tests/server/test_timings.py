"""How long the parts of a request took, as its client is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.support.served import Api, Served

from quire_engine.timing import Timing
from quire_protocol import CompletionResponseStreamChoice, CompletionStreamResponse
from quire_server.errors import AnswerFailed
from quire_server.measured import measured
from quire_server.timings import combined, request_metrics, server_timing

ASK = {"prompt": "Hello", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
DONE = Timing(
    arrived=10.0,
    scheduled=10.5,
    first_token=11.0,
    last_token=12.0,
    finished=12.25,
    prompt_tokens=8,
    cached_tokens=4,
    generation_tokens=5,
    preemptions=1,
)


def test_the_header_tells_each_part_in_milliseconds() -> None:
    told = "prepare;dur=200.0, queue;dur=500.0, prefill;dur=500.0, decode;dur=1000.0, total;dur=2500.0"
    assert server_timing(9.8, 12.3, DONE) == told


def test_the_header_leaves_out_what_has_not_come() -> None:
    assert server_timing(9.8, 10.6, Timing(arrived=10.0, scheduled=10.5)) == (
        "prepare;dur=200.0, queue;dur=500.0, total;dur=800.0"
    )
    assert server_timing(1.0, 1.5, None) == "total;dur=500.0"


def test_metrics_are_in_milliseconds_and_tokens_a_second() -> None:
    assert request_metrics(DONE).model_dump() == {
        "time_to_first_token_ms": 1000.0,
        "generation_time_ms": 1000.0,
        "queue_time_ms": 500.0,
        "mean_itl_ms": 250.0,
        "tokens_per_second": 3.333,
    }


def test_metrics_of_an_answer_without_a_token_are_null() -> None:
    assert set(request_metrics(Timing(arrived=1.0, finished=2.0)).model_dump().values()) == {None}


def test_several_prompts_are_one_request_from_the_first_to_the_last() -> None:
    later = Timing(arrived=10.1, scheduled=10.2, first_token=11.5, last_token=13.0, finished=13.5, generation_tokens=2)
    both = combined([DONE, later])
    assert both == Timing(10.0, 10.2, 11.0, 13.0, 13.5, 8, 4, 7, 1)


def test_a_request_has_not_ended_before_all_its_prompts_have() -> None:
    both = combined([DONE, Timing(arrived=10.1)])
    assert both is not None
    assert (both.finished, both.first_token) == (None, 11.0)


def test_a_request_that_asked_the_engine_nothing_has_no_timing() -> None:
    assert combined([]) is None


def parts(header: str) -> dict[str, float]:
    return {name: float(duration) for name, duration in re.findall(r"(\w+);dur=([\d.]+)", header)}


def test_every_answer_says_how_long_it_took(api: Api) -> None:
    answer = api.request("POST", "/v1/completions", json=ASK)
    told = parts(answer.headers["server-timing"])
    assert list(told) == ["prepare", "queue", "prefill", "decode", "total"]
    assert sum(told.values()) - told["total"] <= told["total"] + 0.5


def test_refusals_and_other_routes_say_it_too(api: Api) -> None:
    refused = api.request("POST", "/v1/completions", json={"prompt": "Hello", "max_tokens": -1})
    for answer in (refused, api.get("/v1/models"), api.get("/nowhere")):
        assert list(parts(answer.headers["server-timing"])) == ["total"]


def test_a_stream_says_what_is_known_when_it_begins(api: Api) -> None:
    answer = api.request("POST", "/v1/completions", json={**ASK, "stream": True})
    assert {"prepare", "queue", "total"} <= parts(answer.headers["server-timing"]).keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", ASK),
        ("/v1/completions", {**ASK, "prompt": ["Hello", "there"], "n": 2}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6}),
        ("/inference/v1/generate", {"token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 6}}),
    ],
)
def test_an_answer_tells_its_metrics_if_asked(api: Api, path: str, body: dict[str, object]) -> None:
    asked = api.request("POST", path, json=body, headers={"Prefer": "wait=5, Metrics"})
    metrics = asked.json()["metrics"]
    assert metrics["time_to_first_token_ms"] > metrics["queue_time_ms"] > 0
    assert metrics["tokens_per_second"] > 0
    assert asked.headers["preference-applied"] == "metrics"
    unasked = api.request("POST", path, json=body)
    assert "metrics" not in unasked.json()
    assert "preference-applied" not in unasked.headers


def test_both_preferences_can_be_asked_for(api: Api) -> None:
    asked = api.request("POST", "/v1/completions", json=ASK, headers={"Prefer": "handling=strict, metrics"})
    assert asked.headers.get_list("preference-applied") == ["handling=strict", "metrics"]


def test_a_server_may_tell_metrics_to_everybody(engine: Served) -> None:
    assert "metrics" in engine.api(enable_per_request_metrics=True).post("/v1/completions", **ASK)


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_tells_them_on_its_last_chunk_alone(engine: Served, usage: bool, n: int) -> None:
    body = {**ASK, "n": n, "stream_options": {"include_usage": usage}}
    chunks = engine.api(enable_per_request_metrics=True).stream("/v1/completions", **body)
    assert ["metrics" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["metrics"]["generation_time_ms"] > 0
    assert texts(chunks) == texts(engine.api().stream("/v1/completions", **body))


def texts(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """The answers of a stream, by choice."""
    answers: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        answers[choice["index"]] = answers.get(choice["index"], "") + choice["text"]
    return answers


def test_an_error_comes_behind_the_chunk_that_might_have_been_the_last() -> None:
    whole = CompletionResponseStreamChoice(index=0, text="x", finish_reason="stop")
    last = CompletionStreamResponse(model="tiny", choices=[whole])

    async def chunks() -> AsyncGenerator[list[CompletionStreamResponse]]:
        yield [last]
        raise AnswerFailed("The other choice broke.")

    found: list[object] = []

    async def scenario() -> None:
        async for come in measured(chunks(), None):
            found.extend(come)

    with pytest.raises(AnswerFailed, match="The other choice broke"):
        asyncio.run(scenario())
    assert found == [last]


def test_no_chunk_waits_for_its_next_but_one_that_may_be_the_last() -> None:
    def chunk(*reasons: str | None) -> CompletionStreamResponse:
        choices = [CompletionResponseStreamChoice(index=0, text="x", finish_reason=reason) for reason in reasons]
        return CompletionStreamResponse(model="tiny", choices=choices)

    async def scenario() -> list[int]:
        made = 0

        async def chunks() -> AsyncGenerator[list[CompletionStreamResponse]]:
            nonlocal made
            for each in (chunk(None), chunk(None), chunk("length"), chunk("stop"), chunk()):
                made += 1
                yield [each]

        return [made async for _ in measured(chunks(), None)]

    assert asyncio.run(scenario()) == [1, 2, 4, 5, 5]
