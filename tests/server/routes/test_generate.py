"""POST /inference/v1/generate: token ids in, token ids out."""

import pytest
from tests.support.served import Api, served

PATH = "/inference/v1/generate"
PARAMS = {"max_tokens": 4, "temperature": 0, "ignore_eos": True}


def test_ids_in_give_ids_out(api: Api) -> None:
    answer = api.post(PATH, token_ids=[10, 20, 30], sampling_params=PARAMS, request_id="mine")
    (choice,) = answer["choices"]
    same = api.post("/v1/completions", prompt=[10, 20, 30], return_token_ids=True, **PARAMS)["choices"][0]
    assert choice == {"index": 0, "logprobs": None, "finish_reason": "length", "token_ids": same["token_ids"]}
    assert answer == {"request_id": "mine", "choices": [choice], "prompt_logprobs": None, "kv_transfer_params": None}


def test_a_stream_gives_the_same_ids(api: Api) -> None:
    body = {"token_ids": [10, 20, 30], "sampling_params": {**PARAMS, "n": 2}, "request_id": "mine"}
    whole = {choice["index"]: choice["token_ids"] for choice in api.post(PATH, **body)["choices"]}
    *events, usage = api.stream(PATH, **body, stream_options={"include_usage": True})
    streamed: dict[int, list[int]] = {0: [], 1: []}
    for event in events:
        assert event["request_id"] == "mine"
        streamed[event["choices"][0]["index"]] += event["choices"][0]["token_ids"]
    assert streamed == whole
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 8)


def test_logprobs_go_by_id(api: Api) -> None:
    params = {**PARAMS, "logprobs": 1, "prompt_logprobs": 0}
    answer = api.post(PATH, token_ids=[10, 20], sampling_params=params)
    (choice,) = answer["choices"]
    names = [f"token_id:{token}" for token in choice["token_ids"]]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == names
    assert [entry["top_logprobs"][0]["token"] for entry in choice["logprobs"]["content"]] == names
    assert [entry and list(entry) for entry in answer["prompt_logprobs"]] == [None, ["20"]]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"])
def test_without_a_tokenizer_ids_are_all_there_is(path: str) -> None:
    with served(skip_tokenizer_init=True) as bare:
        api = bare.api()
        assert len(api.post(PATH, token_ids=[10], sampling_params=PARAMS)["choices"][0]["token_ids"]) == 4
        body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "tokens": [1]}
        fields = {"/detokenize": ("tokens",), "/v1/chat/completions": ("messages",)}.get(path, ("prompt",))
        assert "--skip-tokenizer-init" in api.refusal(path, **{name: body[name] for name in fields})["message"]


def test_a_prompt_of_ids_is_truncated_when_asked_for(api: Api) -> None:
    params = {**PARAMS, "truncate_prompt_tokens": 2}
    truncated = api.post(PATH, token_ids=[10, 20, 30], sampling_params=params)
    assert truncated["choices"] == api.post(PATH, token_ids=[20, 30], sampling_params=PARAMS)["choices"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sampling_params": {"logprobs": 21}}, "sampling_params.logprobs"),
        ({"sampling_params": {"stop_token_ids": [10**6]}}, "sampling_params.stop_token_ids"),
        ({"sampling_params": {"n": 1}, "beam_search": {"beam_width": 2, "max_tokens": 16}}, "sampling_params.n"),
        (
            {"sampling_params": {}, "beam_search": {"beam_width": 1, "max_tokens": 16, "length_penalty": 99}},
            "beam_search.length_penalty",
        ),
        ({"sampling_params": {}, "token_ids": []}, "token_ids"),
        ({"sampling_params": {}, "priority": 1}, "priority"),
    ],
)
def test_a_refusal_names_the_field_by_its_path(api: Api, body: dict[str, object], field: str) -> None:
    assert api.refusal(PATH, **{"token_ids": [5], **body})["param"] == field
