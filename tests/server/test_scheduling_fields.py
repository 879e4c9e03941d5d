"""Fields that reach the scheduler and the cache, as a client sees them: priority, salts, ids, usage, choices."""

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx
import pytest
from tests.support.served import Api, Served, served

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/inference/v1/generate"
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
MESSAGES = [{"role": "user", "content": "Hi"}]


def prompt(first: int, length: int = 80) -> list[int]:
    """Token ids that no other test uses, so that its blocks are its own."""
    return [first + place % 97 for place in range(length)]


def cached(answer: dict[str, Any]) -> int:
    found: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


# --- the prefix cache -------------------------------------------------------------------------------------------------


def ask(api: Api, ids: list[int], **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = api.post(COMPLETIONS, prompt=ids, max_tokens=2, **GREEDY, **fields)
    return answer


def test_only_equal_salts_share_cached_blocks(api: Api) -> None:
    ids = prompt(100)
    asked = (None, None, "a", "a", "b", None)
    answers = [ask(api, ids, **({"cache_salt": salt} if salt else {})) for salt in asked]
    assert [cached(answer) for answer in answers] == [0, 64, 0, 64, 0, 64]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_salts_of_every_route_keep_apart(api: Api, path: str) -> None:
    told = {"role": "user", "content": f"{path} " * 30}
    bodies: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [told], "max_tokens": 1},
        GENERATE: {
            "token_ids": prompt(200),
            "sampling_params": {"max_tokens": 1},
            "stream_options": {"include_usage": True},
        },
    }

    def found(salt: str) -> int:
        body = {**bodies[path], "cache_salt": salt}
        return cached(api.stream(path, **body)[-1] if path == GENERATE else api.post(path, **body))

    assert [found(salt) > 0 for salt in ("a", "a", "b", "b")] == [False, True, False, True]


def test_cached_tokens_are_told_only_when_the_server_is_set_to(engine: Served) -> None:
    assert engine.api().post(COMPLETIONS, prompt=[5], max_tokens=1)["usage"]["prompt_tokens_details"] is None


def test_a_scored_prompt_leaves_its_blocks_to_others(api: Api) -> None:
    ids = prompt(300)
    first = ask(api, ids, prompt_logprobs=1)
    assert (cached(first), "warnings" in first) == (0, False)
    assert cached(ask(api, ids)) == 64


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_a_scored_prompt_that_was_cached_says_that_it_was_computed_again(api: Api, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": prompt(400), "max_tokens": 1, "prompt_logprobs": 1},
        CHAT: {"messages": [{"role": "user", "content": "scored " * 30}], "max_tokens": 1, "prompt_logprobs": 1},
        GENERATE: {"token_ids": prompt(450), "sampling_params": {"max_tokens": 1, "prompt_logprobs": 1}},
    }
    first, second = (api.request("POST", path, json=bodies[path]) for _ in range(2))
    assert "warnings" not in first.json()
    (told,) = second.json()["warnings"]
    assert told.startswith("prompt_logprobs: ")
    assert told.endswith(
        " tokens of the prompt were in the prefix cache and were computed again, as log-probabilities are not cached."
    )
    assert second.headers["x-quire-warnings"] == told


def test_each_scored_prompt_of_several_says_so(api: Api) -> None:
    several = [prompt(500), prompt(520)]
    for ids in several:
        ask(api, ids)
    answer = api.post(COMPLETIONS, prompt=several, max_tokens=1, prompt_logprobs=0, n=2, temperature=0)
    assert len(answer["warnings"]) == 2
    assert cached(answer) == 0


# --- priority ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_priority() -> Iterator[Served]:
    """One seat, given to who is most urgent."""
    with served(scheduling_policy="priority", max_num_seqs=1) as each:
        yield each


def order_of_ends(engine: Served, path: str, bodies: list[dict[str, Any]]) -> list[int]:
    """Send each body once the one before it runs or waits; which of them ended first, second, …"""
    api, ended = engine.api(), []

    async def send(client: httpx.AsyncClient, place: int, body: dict[str, Any]) -> None:
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        ended.append(place)

    async def send_all() -> None:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            tasks = []
            for place, body in enumerate(bodies):
                tasks.append(asyncio.create_task(send(client, place, body)))
                while engine.engine.stats.running + engine.engine.stats.waiting <= place:
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)

    engine.run(send_all())
    return ended


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_who_is_more_urgent_takes_the_place_of_who_runs(by_priority: Served, path: str) -> None:
    def body(length: int, priority: int) -> dict[str, Any]:
        if path == GENERATE:
            params = {**GREEDY, "max_tokens": length}
            return {"token_ids": [5, 6], "sampling_params": params, "priority": priority}
        question: dict[str, Any] = {"prompt": [5, 6]} if path == COMPLETIONS else {"messages": MESSAGES}
        return {**question, **GREEDY, "max_tokens": length, "priority": priority}

    before = by_priority.engine.stats.preemptions
    assert order_of_ends(by_priority, path, [body(400, 5), body(300, 7), body(10, -1)]) == [2, 0, 1]
    assert by_priority.engine.stats.preemptions > before


def test_who_was_preempted_says_what_it_says_alone(by_priority: Served) -> None:
    api = by_priority.api()
    body = {"prompt": [5, 6, 7], "max_tokens": 300, "temperature": 1.2, "seed": 4, "ignore_eos": True, "priority": 5}
    alone = api.post(COMPLETIONS, **body)["choices"][0]["text"]
    found: list[str] = []

    async def disturb() -> None:
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            slow = asyncio.create_task(client.post(COMPLETIONS, json=body))
            while not by_priority.engine.stats.running:
                await asyncio.sleep(0)
            await client.post(COMPLETIONS, json={"prompt": [9], "max_tokens": 5, "priority": 1})
            found.append((await slow).json()["choices"][0]["text"])

    before = by_priority.engine.stats.preemptions
    by_priority.run(disturb())
    assert found == [alone]
    assert by_priority.engine.stats.preemptions > before


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_serves_in_order_refuses_a_priority(api: Api, stream: bool) -> None:
    error = api.refusal(COMPLETIONS, prompt="x", priority=1, stream=stream)
    assert (error["code"], error["param"]) == (400, "priority")
    assert "scheduling_policy=priority" in error["message"]


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_an_answer_is_named_by_the_header_or_the_body_or_at_random(api: Api, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": "x", "max_tokens": 1},
        CHAT: {"messages": MESSAGES, "max_tokens": 1},
        GENERATE: {"token_ids": [5], "sampling_params": {"max_tokens": 1}},
    }
    prefix, field = {COMPLETIONS: ("cmpl-", "id"), CHAT: ("chatcmpl-", "id"), GENERATE: ("", "request_id")}[path]

    def named(header: str | None, body: str | None) -> tuple[str, str]:
        own = {**bodies[path], **({"request_id": body} if body else {})}
        answer = api.request("POST", path, json=own, headers={"X-Request-Id": header} if header else {})
        return answer.json()[field].removeprefix(prefix), answer.headers["x-request-id"]

    assert named("h", "b") == ("h", "h")
    assert named(None, "b") == ("b", "b")
    first, second = named(None, None), named(None, None)
    assert first != second
    assert len(first[0]) == len(second[0]) == 32


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_every_event_of_a_stream_has_the_same_name(api: Api, path: str) -> None:
    question: dict[str, Any] = {"prompt": "x"} if path == COMPLETIONS else {"messages": MESSAGES}
    events = api.stream(path, **question, request_id="mine", max_tokens=3)
    assert {event["id"].partition("-")[2] for event in events} == {"mine"}


# --- what a stream tells of its usage ---------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any] | None] = [
    None,
    {},
    *(
        {"include_usage": usage, "continuous_usage_stats": each}
        for usage, each in product([True, False, None], repeat=2)
    ),
]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_usage_comes_at_the_end_and_with_each_event_as_asked(
    engine: Served, path: str, options: dict[str, Any] | None, force: bool
) -> None:
    api = engine.api(enable_force_include_usage=force)
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": [5, 6], "max_tokens": 4, **GREEDY},
        CHAT: {"messages": MESSAGES, "max_tokens": 4, **GREEDY},
        GENERATE: {"token_ids": [5, 6], "sampling_params": {"max_tokens": 4, **GREEDY}},
    }
    given = {} if options is None else {"stream_options": options}
    events = api.stream(path, **bodies[path], **given)
    at_end = force or (options is not None and bool(options.get("include_usage", True)))
    on_each = at_end and options is not None and bool(options.get("continuous_usage_stats", False))
    *pieces, last = events if at_end else [*events, None]
    assert [bool(event.get("usage")) for event in pieces] == [on_each] * len(pieces)
    assert all(event["choices"] for event in pieces)
    if at_end:
        assert last is not None
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 4)
        assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 4
    if on_each:
        counts = [event["usage"]["completion_tokens"] for event in pieces]
        assert counts == sorted(counts)
        assert counts[-1] == 4


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_options_of_a_stream_need_a_stream(api: Api, path: str) -> None:
    question: dict[str, Any] = {"prompt": "x"} if path == COMPLETIONS else {"messages": MESSAGES}
    assert api.refusal(path, **question, stream_options={"include_usage": True})["param"] == "stream_options"
    api.post(path, **question, max_tokens=1, stream_options={})


# --- choices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_several_greedy_choices_are_equal(api: Api, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": [5, 6], "max_tokens": 5, "n": 3, **GREEDY},
        CHAT: {"messages": MESSAGES, "max_tokens": 5, "n": 3, **GREEDY},
        GENERATE: {"token_ids": [5, 6], "sampling_params": {"max_tokens": 5, "n": 3, **GREEDY}},
    }
    choices = api.post(path, **bodies[path])["choices"]
    assert [choice.pop("index") for choice in choices] == [0, 1, 2]
    assert choices[0] == choices[1] == choices[2]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_a_connector_that_is_not_there_cannot_be_spoken_to(api: Api, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": "x"},
        CHAT: {"messages": MESSAGES},
        GENERATE: {"token_ids": [5], "sampling_params": {}},
    }
    for stream in (False, True):
        error = api.refusal(path, **bodies[path], kv_transfer_params={"do_remote_prefill": True}, stream=stream)
        assert (error["code"], error["param"]) == (400, "kv_transfer_params")
        assert "no KV connector" in error["message"]
