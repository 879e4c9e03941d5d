"""POST /v1/completions on a real engine."""

from typing import Any

import pytest
from tests.support.served import Api, Served

PATH = "/v1/completions"
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
PROMPTS = ["def main():\n    return", "import os", "x"]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 6, "ignore_eos": True}


def text(events: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(each["text"] for event in events for each in event["choices"] if each["index"] == index)


@pytest.fixture(scope="module")
def alone(api: Api) -> list[str]:
    """What each prompt is continued with, one request at a time."""
    return [api.post(PATH, prompt=prompt, **GREEDY)["choices"][0]["text"] for prompt in PROMPTS]


def test_an_answer_has_the_published_shape(api: Api) -> None:
    answer = api.post(PATH, prompt=PROMPTS[0], **GREEDY)
    assert list(answer) == [
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
        "kv_transfer_params",
    ]
    assert list(answer["choices"][0]) == [
        *("index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs"),
        "prompt_token_ids",
    ]
    assert answer["id"].startswith("cmpl-")
    assert answer["system_fingerprint"].startswith("quire-")


def test_a_stream_says_the_same(api: Api, alone: list[str]) -> None:
    events = api.stream(PATH, prompt=PROMPTS[0], **GREEDY)
    assert text(events) == alone[0]
    assert all(len(event["choices"]) == 1 and event["usage"] is None for event in events)
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["length"]


def test_a_prompt_may_be_text_or_ids_one_or_several(api: Api, alone: list[str]) -> None:
    ids = [api.post("/tokenize", prompt=prompt)["tokens"] for prompt in PROMPTS]
    for prompt, expected in ((PROMPTS, alone), (ids, alone), (ids[0], alone[:1])):
        answer = api.post(PATH, prompt=prompt, **GREEDY)
        assert [choice["text"] for choice in answer["choices"]] == expected
        assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids[: len(expected)]))
        assert answer["usage"]["completion_tokens"] == 6 * len(expected)


def test_choices_are_numbered_prompt_by_prompt(api: Api, alone: list[str]) -> None:
    answer = api.post(PATH, prompt=PROMPTS, n=2, **GREEDY)
    assert [choice["text"] for choice in answer["choices"]] == [each for each in alone for _ in range(2)]
    events = api.stream(PATH, prompt=PROMPTS, n=2, **GREEDY)
    assert [text(events, index) for index in range(6)] == [each for each in alone for _ in range(2)]


def test_when_one_prompt_is_refused_the_request_is(engine: Served, api: Api) -> None:
    with engine.aborting(choices=1):
        error = api.refusal(PATH, prompt=[[5], [10**6], [6]], temperature=0, max_tokens=1500, ignore_eos=True)
    assert (error["code"], error["param"]) == (400, "prompt")


@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_before_the_answer(api: Api, alone: list[str], stream: bool, as_ids: bool) -> None:
    prompt = api.post("/tokenize", prompt=PROMPTS[0])["tokens"] if as_ids else PROMPTS[0]
    body = {"prompt": prompt, "echo": True, "return_token_ids": True, **GREEDY}
    found = text(api.stream(PATH, **body)) if stream else api.post(PATH, **body)["choices"][0]["text"]
    assert found == PROMPTS[0] + alone[0]


def test_echo_of_a_truncated_prompt_is_what_was_kept(api: Api) -> None:
    body = {"prompt": PROMPTS[0], "echo": True, "truncate_prompt_tokens": 2, "return_token_ids": True, **GREEDY}
    (choice,) = api.post(PATH, **body)["choices"]
    assert choice["text"].startswith(api.post("/detokenize", tokens=choice["prompt_token_ids"])["prompt"])
    assert len(choice["prompt_token_ids"]) == 2


def test_echo_with_nothing_to_generate_is_the_prompt(api: Api) -> None:
    answer = api.post(PATH, prompt=PROMPTS[0], echo=True, max_tokens=0, logprobs=1, return_token_ids=True)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"], choice["token_ids"]) == (PROMPTS[0], "length", [])
    assert "".join(choice["logprobs"]["tokens"]) == PROMPTS[0]
    assert choice["prompt_token_ids"] == api.post("/tokenize", prompt=PROMPTS[0])["tokens"]
    usage = answer["usage"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (0, usage["prompt_tokens"])


@pytest.mark.parametrize("ends", [{"allowed_token_ids": [0]}, {"allowed_token_ids": [50], "stop_token_ids": [50]}])
def test_echo_with_nothing_to_generate_ends_there_whatever_the_engine_drew(api: Api, ends: dict[str, Any]) -> None:
    body = {"prompt": PROMPTS[0], "echo": True, "max_tokens": 0, **ends}
    (choice,) = api.post(PATH, **body)["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (PROMPTS[0], "length", None)
    events = api.stream(PATH, **body, stream_options={"include_usage": True})
    assert (text(events), events[-1]["usage"]["completion_tokens"]) == (PROMPTS[0], 0)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("as_ids", [True, False])
def test_offsets_in_an_echoed_prompt_count_the_special_tokens_that_stand_there(
    api: Api, skip: bool, as_ids: bool
) -> None:
    prompt: Any = "<|im_start|>user"
    if as_ids:
        prompt = api.post("/tokenize", prompt=prompt)["tokens"]
    body = {"prompt": prompt, "echo": True, "logprobs": 0, "skip_special_tokens": skip, **GREEDY}
    (choice,) = api.post(PATH, **body)["choices"]
    logprobs = choice["logprobs"]
    assert logprobs["tokens"][0] == "<|im_start|>"
    assert logprobs["text_offset"][1] == len("<|im_start|>")


def approximately(logprobs: list[float | None]) -> list[Any]:
    """The same but for the last digits, in which batches of different sizes may differ."""
    return [logprob if logprob is None else pytest.approx(logprob, abs=1e-4) for logprob in logprobs]


def test_logprobs_of_prompt_and_answer_are_one_list(api: Api) -> None:
    body = {"prompt": PROMPTS[0], "echo": True, "logprobs": 2, "n": 2, **GREEDY}
    first, second = api.post(PATH, **body)["choices"]
    logprobs = first["logprobs"]
    assert logprobs["tokens"] == second["logprobs"]["tokens"]
    assert [logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]] == [None, None]
    assert {len(each) for each in logprobs.values()} == {len(logprobs["tokens"])}
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        is_shown = "\ufffd" not in token and token not in SPECIAL
        assert not is_shown or first["text"].startswith(token, offset)
    events = [event["choices"][0] for event in api.stream(PATH, **{**body, "n": 1})]
    for name in ("tokens", "text_offset", "token_logprobs"):
        streamed = [each for event in events for each in event["logprobs"][name]]
        assert streamed == (logprobs[name] if name != "token_logprobs" else approximately(logprobs[name]))


def test_zero_logprobs_are_those_of_the_drawn_tokens_alone(api: Api) -> None:
    logprobs = api.post(PATH, prompt="x", logprobs=0, **GREEDY)["choices"][0]["logprobs"]
    assert [list(each) for each in logprobs["top_logprobs"]] == [[token] for token in logprobs["tokens"]]


@pytest.mark.parametrize("count", [0, 2])
def test_prompt_logprobs_are_by_id(api: Api, count: int) -> None:
    (choice,) = api.post(PATH, prompt=[5, 6, 7], prompt_logprobs=count, **GREEDY)["choices"]
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    for token, entry in zip((6, 7), rest, strict=True):
        assert set(entry[str(token)]) == {"logprob", "rank", "decoded_token"}
        assert count <= len(entry) <= count + 1


def test_a_seed_makes_an_answer_repeatable(api: Api) -> None:
    body = {"prompt": "x", "temperature": 1.5, "max_tokens": 12}
    first, second = (api.post(PATH, seed=7, **body)["choices"][0]["text"] for _ in range(2))
    assert first == second != api.post(PATH, seed=8, **body)["choices"][0]["text"]


def test_a_client_that_goes_away_ends_all_its_prompts(engine: Served, api: Api) -> None:
    body = {"prompt": PROMPTS, "n": 2, "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with engine.aborting(choices=6):
        api.leave(PATH, body, after=2)
