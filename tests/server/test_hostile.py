"""Hostile values: a 4xx where a limit is passed, otherwise a result; never a 5xx, and nobody else notices.

While they are sent, a seeded stream is being answered, which must say what it says alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, TypeAlias

import httpx
import pytest
from tests.server.test_refusals import BODIES
from tests.support.served import Api, Served, error_of

import quire_protocol
from quire_protocol import SamplingParams
from quire_server.bodies import DEEPEST, TOO_DEEP

ANYTHING: tuple[Any, ...] = (
    *(True, None, -1, 0, 1, 1.5, -0.0, 1e308, 2**31, 2**63, -(2**63) - 1, 2**70, 10**400),
    *(float("nan"), float("inf"), float("-inf")),
    *("", "x", "\x00", "1", "𝕏" * 100, "x" * 5000),
    *([], [[]], [0], [-1], [2**70], ["x"], [None], [float("nan")], [[0], ["x"]], [{}]),
    *({}, {"": ""}, {"x": 1}, {"1": 1}, {"type": "x"}, {"-1": 1}, {str(2**70): 1}, {"1": float("nan")}),
)
"""Every field is sent each of these."""

MEGABYTE = "word " * 200_000
MANY = 100_000

Bounds: TypeAlias = Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]]
"""field: values that pass, values beyond."""

# The model's context has 2,048 tokens, its vocabulary 2,048.
OF_BOTH: Bounds = {
    "temperature": ((0, 1e-9, 2), (-1e-9, 2.001)),
    "top_p": ((1e-9, 1), (0, -1, 1.001)),
    "top_k": ((-1, 0, 1, 2**31 - 1), (-2, 2**31)),
    "min_p": ((0, 1), (-1e-9, 1.001)),
    "presence_penalty": ((-2, 2), (-2.001, 2.001)),
    "frequency_penalty": ((-2, 2), (-2.001, 2.001)),
    "repetition_penalty": ((1e-9, 1e6), (0, -1, 1e6 + 1)),
    "n": ((1, 200), (0, -1, 16_385)),
    "seed": ((-(2**63), -1, 2**63 - 1), (-(2**63) - 1, 2**63)),
    "max_tokens": ((1,), (0, -1, 2048, 2**31)),
    "min_tokens": ((0, 1), (-1, 2, 2**31)),
    "prompt_logprobs": ((0, 20), (-2, -1, 21)),
    "truncate_prompt_tokens": ((-1, 1, 2048), (-2, 0, 2049)),
    "priority": ((0,), (-1, 1, 2**63)),
    "stop_token_ids": (([0], [2047], [2047] * 1000), ([-1], [2048], [2**70])),
    "allowed_token_ids": (([0], [2047], [*range(2048)] * 100), ([], [-1], [2048], [2**70])),
    "logit_bias": (({"0": -100, "2047": 100}, {"5": 1e6}), ({"-1": 1}, {"2048": 1}, {"5": 1e7}, {str(2**70): 1})),
    "stop": (("x", ["x"] * 256, "x" * 4096), ("x" * 4097, ["x"] * 257, ["x" * 4096] * 5, [""], MEGABYTE)),
}
OF_COMPLETIONS: Bounds = {
    "logprobs": ((0, 20), (-2, -1, 21)),
    "prompt": (([0], [2047], [[1], [2]], "x" * 200), ([], "", [-1], [2048], [2**70], [[]], [1] * 2048, MEGABYTE)),
}
OF_CHAT: Bounds = {
    "top_logprobs": ((0, 20), (-2, -1, 21)),
    "max_completion_tokens": ((1,), (0, -1, 2048)),
    "bad_words": ((["x"] * 4096, ["x" * 256]), ([""], ["x" * 257], ["x"] * 4097)),
    "messages": ((), ([], [{}], [{"role": "user", "content": MEGABYTE}], [{"role": "user"}] * MANY)),
}
BESIDE: Mapping[str, dict[str, Any]] = {"top_logprobs": {"logprobs": True}}

BOUNDS: Mapping[str, Bounds] = {
    "CompletionRequest": {**OF_BOTH, **OF_COMPLETIONS},
    "ChatCompletionRequest": {**OF_BOTH, **OF_CHAT},
}

DEEP = "[" * 5000 + "]" * 5000
NOT_TEXT = {
    "a byte that begins nothing": b'{"prompt": "\xff"}',
    "half a character": b'{"prompt": "\xe2\x82"}',
    "a character written too long": b'{"prompt": "\xc0\xaf"}',
    "half of a pair": b'{"prompt": "\xed\xa0\x80"}',
    "UTF-16": '{"prompt": "x"}'.encode("utf-16"),
    "a mark of byte order": b'\xef\xbb\xbf{"prompt": "x"}',
    "zero bytes": b"\x00" * 100,
    "nothing but space": b" " * 10_000,
}
NESTED = '{"a":' * 100 + "1" + "}" * 100
RAW = {
    "lists, 5,000 deep": f'{{"prompt": {DEEP}}}',
    "objects, 100 deep": f'{{"prompt": "x", "vllm_xargs": {NESTED}}}',
    "a constraint, 100 deep": f'{{"prompt": "x", "structured_outputs": {{"json": {NESTED}}}}}',
    "a name twice, the last one wrong": '{"prompt": "x", "n": 1, "n": "x"}',
    "a name twice, the last one right": '{"prompt": "x", "n": "x", "n": 1}',
    "half a character": '{"prompt": "\\ud800"}',
    "a number of 5,000 digits": f'{{"prompt": "x", "max_tokens": {"9" * 5000}}}',
    "no JSON": '{"prompt": "x"',
    "a list": "[1, 2]",
    "null": "null",
    "100,000 unknown fields": json.dumps({"prompt": "x", **{f"f{number}": 1 for number in range(MANY)}}),
    "100,000 biases": json.dumps({"prompt": "x", "max_tokens": 1, "logit_bias": {str(n): 1 for n in range(MANY)}}),
    "100,000 stops": json.dumps({"prompt": "x", "stop": ["x"] * MANY}),
    "100,000 stop tokens": json.dumps({"prompt": "x", "max_tokens": 1, "stop_token_ids": [5] * MANY}),
    "100,000 prompts": json.dumps({"prompt": ["x"] * MANY, "max_tokens": 1}),
    "100,000 choices of few prompts": json.dumps({"prompt": [[5]] * 7, "n": 16_384, "max_tokens": 1}),
    "100,000 token ids": json.dumps({"prompt": [5] * MANY}),
}

STREAM = {
    "prompt": "Tell me",
    "stream": True,
    "max_tokens": 60,
    "seed": 5,
    "ignore_eos": True,
    "return_token_ids": True,
}


class Neighbour:
    """Asks for the same seeded stream again and again while others are served, and hears whether it stays the same."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.alone = api.served.run(self._listen())

    def while_sending(self, path: str, bodies: Iterable[str]) -> list[httpx.Response]:
        """The answers to hostile bodies, sent one after the other."""
        return self.api.served.run(self._beside(path, bodies))

    async def _beside(self, path: str, bodies: Iterable[str]) -> list[httpx.Response]:
        async with client_of(self.api) as client, asyncio.TaskGroup() as group:
            answers = group.create_task(send_all(client, path, bodies))
            while not answers.done():
                assert await self._listen() == self.alone
        return answers.result()

    async def _listen(self) -> list[int]:
        """The stream's tokens."""
        async with client_of(self.api) as client:
            answer = await client.post("/v1/completions", json=STREAM)
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        return [token for each in data for choice in json.loads(each)["choices"] for token in choice["token_ids"]]


@asynccontextmanager
async def client_of(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def send_all(client: httpx.AsyncClient, path: str, bodies: Iterable[str]) -> list[httpx.Response]:
    headers = {"Content-Type": "application/json"}
    return [await client.post(path, content=body.encode(), headers=headers) for body in bodies]


@pytest.fixture(scope="module")
def neighbour(api: Api) -> Neighbour:
    return Neighbour(api)


def bodies_of(model: str, field: str, values: Iterable[Any]) -> list[str]:
    body = {**BODIES[model][1], **BESIDE.get(field, {})}
    return [json.dumps({**body, field: value}) for value in values]


def is_answered(answer: httpx.Response) -> bool:
    """Whether there is a result; else there must be a refusal."""
    if answer.status_code == 200:
        return True
    assert error_of(answer)["code"] in (400, 404, 413)
    return False


@pytest.mark.parametrize("model", BOUNDS)
def test_a_bound_passes_and_one_beyond_is_refused(neighbour: Neighbour, model: str) -> None:
    wanted = {
        body: (field, passes)
        for field, (passing, beyond) in BOUNDS[model].items()
        for values, passes in ((passing, True), (beyond, False))
        for body in bodies_of(model, field, values)
    }
    answers = neighbour.while_sending(BODIES[model][0], wanted)
    for (field, passes), answer in zip(wanted.values(), answers, strict=True):
        assert is_answered(answer) == passes, (field, answer.text)


@pytest.mark.parametrize("model", ["CompletionRequest", "ChatCompletionRequest", "GenerateRequest"])
def test_anything_in_any_field_is_a_result_or_a_refusal(neighbour: Neighbour, model: str) -> None:
    names = getattr(quire_protocol, model).model_fields
    send_anything(neighbour, model, [body for name in names for body in bodies_of(model, name, ANYTHING)])


def send_anything(neighbour: Neighbour, model: str, bodies: list[str]) -> None:
    for part in range(0, len(bodies), 150):
        for answer in neighbour.while_sending(BODIES[model][0], bodies[part : part + 150]):
            is_answered(answer)


def test_anything_in_any_sampling_parameter_is_a_result_or_a_refusal(neighbour: Neighbour) -> None:
    names = (each.name for each in fields(SamplingParams))
    params = ({"max_tokens": 1, name: value} for name in names for value in ANYTHING)
    send_anything(
        neighbour,
        "GenerateRequest",
        [body for own in params for body in bodies_of("GenerateRequest", "sampling_params", [own])],
    )


def test_a_strange_body_is_a_result_or_a_refusal(neighbour: Neighbour) -> None:
    answers = [neighbour.while_sending("/v1/completions", [body])[0] for body in RAW.values()]
    assert [name for name, answer in zip(RAW, answers, strict=True) if is_answered(answer)] == [
        "a name twice, the last one right",
        "100,000 unknown fields",
        "100,000 stop tokens",
    ]


@pytest.mark.parametrize("name", NOT_TEXT)
def test_bytes_that_are_no_text_are_refused(api: Api, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.request("POST", "/v1/completions", content=NOT_TEXT[name], headers=headers)
    assert error_of(answer)["message"].startswith("The body is not JSON: ")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("field", ["prompt", "vllm_xargs", "structured_outputs", "stream_options", "logit_bias", "zz"])
def test_a_body_has_a_depth(api: Api, field: str, opening: str, closing: str) -> None:
    def ask(levels: int) -> httpx.Response:
        body = f'{{"max_tokens": 1, "prompt": "x", "{field}": {opening * levels}1{closing * levels}}}'
        headers = {"Content-Type": "application/json"}
        return api.request("POST", "/v1/completions", content=body.encode(), headers=headers)

    assert error_of(ask(DEEPEST + 1))["message"] == TOO_DEEP
    fitting = ask(DEEPEST - 1)
    assert is_answered(fitting) or error_of(fitting)["message"] != TOO_DEEP


def test_the_engine_is_idle_and_well_afterwards(engine: Served, api: Api) -> None:
    engine.until(lambda stats: not stats.running and not stats.waiting)
    assert api.get("/health").status_code == 200
    assert api.post("/v1/completions", prompt="x", max_tokens=1)["usage"]["completion_tokens"] == 1
