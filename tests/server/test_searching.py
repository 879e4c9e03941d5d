"""Beam search over HTTP: n answers, best first; what does not go with it is refused or told."""

from typing import Any

import pytest
from tests.support.served import Api, error_of

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/inference/v1/generate"
PATHS: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "def main():\n    return"},
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
}
SEARCH: dict[str, Any] = {"use_beam_search": True, "n": 3, "max_tokens": 6, "ignore_eos": True, "temperature": 0}

both = pytest.mark.parametrize(("path", "body"), PATHS.items())


def texts(answer: dict[str, Any]) -> list[str]:
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer["choices"]]


def total(choice: dict[str, Any]) -> float:
    logprobs = choice["logprobs"]
    return sum(logprobs["token_logprobs"] if "tokens" in logprobs else [e["logprob"] for e in logprobs["content"]])


@both
def test_its_answers_are_different_ones_best_first(api: Api, path: str, body: dict[str, Any]) -> None:
    scores = {"logprobs": True} if path == CHAT else {"logprobs": 0}
    answer = api.post(path, **body, **SEARCH, **scores)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len(set(texts(answer))) == 3
    totals = [total(choice) for choice in answer["choices"]]
    assert totals == sorted(totals, reverse=True)
    assert answer["usage"]["completion_tokens"] == 18


@both
def test_it_finds_nothing_less_likely_than_the_greedy_answer(api: Api, path: str, body: dict[str, Any]) -> None:
    scores = {"logprobs": True} if path == CHAT else {"logprobs": 0}
    greedy = api.post(path, **body, **SEARCH | {"use_beam_search": False, "n": 1}, **scores)
    found = api.post(path, **body, **SEARCH, **scores)
    assert total(found["choices"][0]) >= total(greedy["choices"][0]) - 1e-4


@both
def test_one_beam_gives_the_greedy_answer(api: Api, path: str, body: dict[str, Any]) -> None:
    one = SEARCH | {"n": 1}
    assert texts(api.post(path, **body, **one)) == texts(api.post(path, **body, **one | {"use_beam_search": False}))


def test_every_prompt_is_searched(api: Api) -> None:
    prompts = ["import os", "x"]
    together = api.post(COMPLETIONS, prompt=prompts, **SEARCH)
    alone = [api.post(COMPLETIONS, prompt=prompt, **SEARCH) for prompt in prompts]
    assert texts(together) == texts(alone[0]) + texts(alone[1])


def test_token_ids_are_searched_too(api: Api) -> None:
    ids = api.post("/tokenize", prompt="import os")["tokens"]
    params = {"n": 3, "max_tokens": 6, "ignore_eos": True}
    search = {"beam_width": 3, "max_tokens": 6, "ignore_eos": True}
    answer = api.post(GENERATE, token_ids=ids, sampling_params=params, beam_search=search)
    expected = api.post(COMPLETIONS, prompt="import os", return_token_ids=True, **SEARCH)
    assert [c["token_ids"] for c in answer["choices"]] == [c["token_ids"] for c in expected["choices"]]


@both
def test_a_penalty_on_length_decides_where_answers_have_different_ones(
    api: Api, path: str, body: dict[str, Any]
) -> None:
    ends = {**SEARCH, "stop_token_ids": list(range(200)), "max_tokens": 12, "return_token_ids": True}

    def lengths(penalty: float) -> int:
        answer = api.post(path, **body, **ends, length_penalty=penalty)
        return sum(len(choice["token_ids"]) for choice in answer["choices"])

    assert lengths(-8.0) < lengths(30.0)


@both
@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("stream", {"stream": True}),
        ("stop", {"stop": ["a"]}),
        ("min_tokens", {"min_tokens": 1}),
        ("logit_bias", {"logit_bias": {"5": 1}}),
        ("allowed_token_ids", {"allowed_token_ids": [5]}),
        ("length_penalty", {"length_penalty": 1e6}),
        ("n", {"n": 129}),
        ("response_format", {"response_format": {"type": "json_object"}}),
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(
    api: Api, path: str, body: dict[str, Any], param: str, fields: dict[str, Any]
) -> None:
    error = api.refusal(path, **body, **SEARCH | fields)
    assert (error["code"], error["param"]) == (400, param)


def test_an_echo_with_logprobs_is_refused(api: Api) -> None:
    body = PATHS[COMPLETIONS] | SEARCH | {"echo": True}
    assert api.refusal(COMPLETIONS, **body, logprobs=1)["param"] == "echo"
    assert all(text.startswith(PATHS[COMPLETIONS]["prompt"]) for text in texts(api.post(COMPLETIONS, **body)))


@both
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperature", 0.7), ("top_p", 0.5), ("top_k", 3), ("min_p", 0.1)),
        *(("presence_penalty", 1.0), ("frequency_penalty", 1.0), ("repetition_penalty", 1.5)),
    ],
)
def test_how_to_draw_has_no_effect_and_that_is_told(
    api: Api, path: str, body: dict[str, Any], field: str, value: float
) -> None:
    plain = api.post(path, **body, **SEARCH)
    answer = api.post(path, **body, **SEARCH | {field: value})
    assert texts(answer) == texts(plain)
    assert "warnings" not in plain
    (warning,) = answer["warnings"]
    assert warning.startswith(f"{field} had no effect: beam search goes by the model's own")


@both
def test_a_length_penalty_without_a_search_is_told(api: Api, path: str, body: dict[str, Any]) -> None:
    asked = {**body, "max_tokens": 1, "length_penalty": 0.5}
    (warning,) = api.post(path, **asked)["warnings"]
    assert warning == "length_penalty had no effect: it is for beam search, and use_beam_search is not set."
    answer = api.request("POST", path, json=asked, headers={"Prefer": "handling=strict"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "length_penalty")
