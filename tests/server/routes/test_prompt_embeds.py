"""POST /v1/completions with prompts that are embeddings, over the process link as under `quire serve`."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from tests.support.served import Api, served

from quire_engine.checkpoint import resolve

PATH = "/v1/completions"
PROMPTS = ["def main():\n    return", "import os"]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 6, "ignore_eos": True}


@pytest.fixture(scope="module")
def taking() -> Iterator[Api]:
    with served("process", enable_prompt_embeds=True) as each:
        yield each.api(enable_prompt_tokens_details=True)


@pytest.fixture(scope="module")
def embeds(taking: Api) -> list[str]:
    """What the model's own embedding makes of PROMPTS."""
    table = load_file(resolve(None) / "model.safetensors")["model.embed_tokens.weight"]
    ids = [taking.post("/tokenize", prompt=prompt)["tokens"] for prompt in PROMPTS]
    return [base64.b64encode(save({"embeds": table[torch.tensor(each)]})).decode() for each in ids]


def texts(answer: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


def test_embeddings_are_answered_as_their_text_is(taking: Api, embeds: list[str]) -> None:
    wanted, got = taking.post(PATH, prompt=PROMPTS, **GREEDY), taking.post(PATH, prompt_embeds=embeds, **GREEDY)
    assert texts(got) == texts(wanted)
    assert got["usage"]["prompt_tokens"] == wanted["usage"]["prompt_tokens"]


def test_embeddings_come_before_the_texts_of_one_request(taking: Api, embeds: list[str]) -> None:
    first, second = texts(taking.post(PATH, prompt=PROMPTS, **GREEDY))
    answer = taking.post(PATH, prompt=PROMPTS[0], prompt_embeds=embeds[1], n=2, **GREEDY)
    assert texts(answer) == [second, second, first, first]
    events = taking.stream(PATH, prompt=PROMPTS[0], prompt_embeds=embeds[1], **GREEDY)
    streamed = [
        "".join(choice["text"] for event in events for choice in event["choices"] if choice["index"] == index)
        for index in (0, 1)
    ]
    assert streamed == [second, first]


def test_beams_go_on_from_them(taking: Api, embeds: list[str]) -> None:
    body = {"use_beam_search": True, "n": 3, "max_tokens": 6}
    assert texts(taking.post(PATH, prompt_embeds=embeds[0], **body)) == texts(
        taking.post(PATH, prompt=PROMPTS[0], **body)
    )


def test_they_have_no_ids_to_return(taking: Api, embeds: list[str]) -> None:
    answer = taking.post(PATH, prompt=PROMPTS[1], prompt_embeds=embeds[0], return_token_ids=True, **GREEDY)
    given, text = answer["choices"]
    assert given["prompt_token_ids"] is None
    assert len(given["token_ids"]) == 6
    assert text["prompt_token_ids"]


def test_equal_ones_find_each_other_in_the_cache(taking: Api) -> None:
    rows = torch.randn(40, 256, generator=torch.Generator().manual_seed(0))
    one, other = (base64.b64encode(save({"embeds": each})).decode() for each in (rows, rows * 0.5))
    cached = [
        taking.post(PATH, prompt_embeds=each, **GREEDY)["usage"]["prompt_tokens_details"]["cached_tokens"]
        for each in (one, other, one)
    ]
    assert cached[:2] == [0, 0]
    assert cached[2] >= 32


def test_a_repetition_penalty_has_no_prompt_to_look_at(taking: Api, embeds: list[str]) -> None:
    body = {**GREEDY, "max_tokens": 1, "repetition_penalty": 2.0}
    plain = taking.post(PATH, prompt=PROMPTS[0], **{**body, "repetition_penalty": 1.0})
    assert texts(taking.post(PATH, prompt_embeds=embeds[0], **body)) == texts(plain)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"prompt_embeds": ["*"]}, "prompt_embeds.0"),
        ({"prompt_embeds": "AAAA", "prompt": "a", "echo": True}, "echo"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_byte(
    taking: Api, body: dict[str, Any], param: str, stream: bool
) -> None:
    error = taking.refusal(PATH, **body, stream=stream)
    assert (error["code"], error["param"]) == (400, param)


def test_a_server_that_was_not_told_to_takes_none(api: Api, embeds: list[str]) -> None:
    error = api.refusal(PATH, prompt_embeds=embeds)
    assert (error["code"], error["param"]) == (400, "prompt_embeds")
    assert "--enable-prompt-embeds" in error["message"]
