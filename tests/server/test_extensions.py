"""Logits processors of an installed package, named by requests or applied to all of them by the server."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.served import Api, Served, error_of, served
from tests.support.shop import open_shop

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/inference/v1/generate"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 4, "ignore_eos": True}
PROMPT = [10, 20, 30]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that applies shop.steer to every request, and allows requests all of the shop but shop.steer."""
    with (
        open_shop(tmp_path_factory.mktemp("shop")),
        served(logits_processors=("shop.steer",), logits_processor_pattern=r"shop\.(?!steer)") as each,
    ):
        yield each


@pytest.fixture(scope="module")
def api(engine: Served) -> Api:
    return engine.api()


def ids(api: Api, *processors: Any, prompt: list[int] = PROMPT, **fields: Any) -> list[int]:
    body = {"prompt": prompt, "logits_processors": list(processors), "return_token_ids": True, **GREEDY, **fields}
    found: list[int] = api.post(COMPLETIONS, **body)["choices"][0]["token_ids"]
    return found


def together(api: Api, bodies: list[dict[str, Any]]) -> list[Any]:
    """The answers to completions that are asked for at the same time."""

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = await asyncio.gather(*(client.post(COMPLETIONS, json=body) for body in bodies))
        return [answer.json() for answer in answers]

    return api.served.run(ask())


def force(token: int, **kwargs: Any) -> dict[str, Any]:
    return {"qualname": "shop.Force", "args": [token], "kwargs": kwargs}


def test_a_processor_sees_what_was_said_and_changes_what_comes(api: Api) -> None:
    found = ids(api, force(7, after=2), "shop.ban_repeats", max_tokens=3)
    assert found[2] == 7
    assert len(set(ids(api, "shop.ban_repeats", max_tokens=40))) == 40


def test_one_with_three_parameters_sees_the_prompt_too(api: Api) -> None:
    assert ids(api, "shop.echo_prompt", max_tokens=5) == [10, 20, 30, 10, 20]


def test_they_run_in_the_order_in_which_they_are_named(api: Api) -> None:
    assert ids(api, force(7), force(8)) == [8] * 4
    assert ids(api, force(8), force(7)) == [7] * 4


def test_each_choice_has_a_processor_of_its_own(api: Api) -> None:
    body = {"prompt": PROMPT, "logits_processors": [{"qualname": "shop.Count"}], "return_token_ids": True, "n": 3}
    choices = api.post(COMPLETIONS, **body, **GREEDY)["choices"]
    assert [choice["token_ids"] for choice in choices] == [[10, 11, 12, 13]] * 3


def test_what_the_request_itself_demands_holds_after_them(api: Api) -> None:
    assert ids(api, force(7), logit_bias={"7": -100}, allowed_token_ids=[7, 8]) == [7] * 4
    said = api.refusal(COMPLETIONS, prompt=PROMPT, logits_processors=[force(7)], allowed_token_ids=[8], **GREEDY)
    assert (said["code"], said["param"]) == (400, "allowed_token_ids")
    assert "allowed_token_ids and logits_processors exclude them all" in said["message"]


def test_every_route_that_generates_takes_them(api: Api) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "logits_processors": [force(7)], "return_token_ids": True}
    assert api.post(CHAT, **chat, **GREEDY)["choices"][0]["token_ids"] == [7] * 4
    params = {**GREEDY, "logits_processors": [force(7)]}
    assert api.post(GENERATE, token_ids=PROMPT, sampling_params=params)["choices"][0]["token_ids"] == [7] * 4


def test_only_rows_that_ask_are_changed(api: Api) -> None:
    body = {"prompt": PROMPT, "return_token_ids": True, **GREEDY, "max_tokens": 40}
    bodies = [body, {**body, "logits_processors": [force(7)]}, {**body, "vllm_xargs": {"forced": 8}}, body]
    alone = ids(api, max_tokens=40)
    answers = together(api, bodies)
    assert [answer["choices"][0]["token_ids"] for answer in answers] == [alone, [7] * 40, [8] * 40, alone]


def test_one_that_fails_in_a_crowd_fails_alone(api: Api) -> None:
    body = {"prompt": PROMPT, "return_token_ids": True, **GREEDY, "max_tokens": 40}
    first, failed, last = together(api, [body, {**body, "logits_processors": ["shop.fragile"]}, body])
    assert "out of ideas" in failed["error"]["message"]
    assert first["choices"] == last["choices"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shop.fragile", 'The logits processor "shop.fragile" failed: RuntimeError: out of ideas.'),
        ("shop.shapeless", "The logits processors returned [3], which is no tensor of 2048 logits."),
        (
            "shop.sparse",
            "The logits processors returned torch.float32 in the layout torch.sparse_coo, which logits cannot be.",
        ),
        ("shop.undefined", "The logits processors left logits that are not finite numbers."),
    ],
)
def test_one_that_fails_ends_its_answer_with_the_reason(api: Api, name: str, reason: str) -> None:
    streamed = {"prompt": PROMPT, "logits_processors": [name], "stream": True, **GREEDY}
    answer = api.request("POST", COMPLETIONS, json=streamed)
    has_begun = name == "shop.fragile"  # what fails before the first token has a status of its own
    assert answer.status_code == (200 if has_begun else 500)
    assert f'"message":{json.dumps(reason)}' in answer.text
    error = api.refusal(COMPLETIONS, prompt=PROMPT, logits_processors=[name], **GREEDY)
    assert (error["code"], error["message"]) == (500, reason)


@pytest.mark.parametrize(
    "named",
    [
        "shop.sparse",
        {"qualname": "shop.kind", "args": ["list"]},
        {"qualname": "shop.kind", "args": ["number"]},
        {"qualname": "shop.kind", "args": ["type"]},
    ],
    ids=str,
)
def test_one_that_gives_something_strange_harms_no_neighbour(api: Api, named: Any) -> None:
    body = {"prompt": PROMPT, "return_token_ids": True, **GREEDY, "max_tokens": 40}
    first, failed, last = together(api, [body, {**body, "logits_processors": [named]}, body])
    assert "shop.kind" in failed["error"]["message"] or "sparse" in failed["error"]["message"]
    assert first["choices"] == last["choices"]
    assert len(first["choices"][0]["token_ids"]) == 40


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (
            {"qualname": "shop.kind", "args": ["number"]},
            "gave an object of type int, which cannot be called as a logits processor",
        ),
        ({"qualname": "shop.Force"}, "missing 1 required positional argument"),
        (force("seven"), "invalid literal"),
        ("shop.missing", "AttributeError"),
    ],
)
def test_one_that_cannot_be_made_is_the_requests_mistake(api: Api, processor: Any, reason: str) -> None:
    error = api.refusal(COMPLETIONS, prompt=PROMPT, logits_processors=[processor], **GREEDY)
    assert (error["code"], error["param"]) == (400, "logits_processors")
    assert reason in error["message"]


@pytest.mark.parametrize("name", ["os.system", "shop.steer", "shop.Other", "shop"])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_a_name_that_is_not_registered_and_allowed_is_refused(api: Api, path: str, name: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": PROMPT, "logits_processors": [name]},
        CHAT: {"messages": [{"role": "user", "content": "Hi"}], "logits_processors": [name]},
        GENERATE: {"token_ids": PROMPT, "sampling_params": {"logits_processors": [name]}},
    }
    error = api.refusal(path, **bodies[path])
    place = "sampling_params.logits_processors" if path == GENERATE else "logits_processors"
    assert (error["code"], error["param"]) == (400, place)
    assert name in error["message"]


def test_without_a_pattern_they_are_off(tmp_path: Any) -> None:
    with open_shop(tmp_path), served() as bare:
        api = bare.api()
        error = api.refusal(COMPLETIONS, prompt=PROMPT, logits_processors=["shop.Count"])
        assert (error["code"], error["param"]) == (400, "logits_processors")
        assert "--logits-processor-pattern" in error["message"]
        error = api.refusal(GENERATE, token_ids=PROMPT, sampling_params={"logits_processors": ["shop.Count"]})
        assert error["param"] == "sampling_params.logits_processors"


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_a_request_steers_what_is_applied_to_all(api: Api, path: str) -> None:
    xargs = {"forced": 7}
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": PROMPT, "vllm_xargs": xargs, "return_token_ids": True, **GREEDY},
        CHAT: {
            "messages": [{"role": "user", "content": "Hi"}],
            "vllm_xargs": xargs,
            "return_token_ids": True,
            **GREEDY,
        },
        GENERATE: {"token_ids": PROMPT, "sampling_params": {**GREEDY, "extra_args": xargs}},
    }
    answer = api.post(path, **bodies[path])
    assert answer["choices"][0]["token_ids"] == [7] * 4
    assert "warnings" not in answer


def test_it_does_nothing_for_requests_that_do_not(api: Api) -> None:
    with served() as bare:
        assert ids(api) == ids(bare.api())


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_arguments_that_nobody_takes_are_told(engine: Served, api: Api, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": PROMPT, "max_tokens": 1, "vllm_xargs": {"forced": 7, "other": 1}},
        CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "vllm_xargs": {"other": 1}},
        GENERATE: {"token_ids": PROMPT, "sampling_params": {"max_tokens": 1, "extra_args": {"other": 1}}},
    }
    place = "sampling_params.extra_args.other" if path == GENERATE else "vllm_xargs.other"
    answer = api.request("POST", path, json=bodies[path])
    told = f"{place} is taken by no extension here: it had no effect."
    assert (answer.status_code, answer.json()["warnings"]) == (200, [told])
    assert answer.headers["x-quire-warnings"] == told
    for refused in (
        api.request("POST", path, json=bodies[path], headers={"Prefer": "handling=strict"}),
        engine.api(unknown_fields="refuse").request("POST", path, json=bodies[path]),
    ):
        assert error_of(refused)["param"] == place


def test_a_wrong_argument_is_the_requests_mistake(api: Api) -> None:
    error = api.refusal(COMPLETIONS, prompt=PROMPT, vllm_xargs={"forced": "x"}, **GREEDY)
    assert (error["code"], error["param"]) == (400, "vllm_xargs")
    assert "shop.steer" in error["message"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"logits_processors": ("shop.nobody",)}, "no installed package registers"),
        ({"logits_processors": ("shop.missing",)}, "cannot be loaded"),
        ({"logits_processors": ("shop.demanding",)}, "needed has no default"),
    ],
)
def test_a_server_that_cannot_load_its_own_does_not_start(engine: Served, config: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason), served(**config):
        pass


def test_a_pattern_must_be_one() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        EngineConfig(logits_processor_pattern="(")
