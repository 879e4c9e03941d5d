"""POST /v1/chat/completions on a real engine."""

from typing import Any

import pytest
from tests.support.served import Api, Served

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Tell me something."}]
GREEDY: dict[str, Any] = {"messages": HELLO, "temperature": 0, "max_tokens": 8, "ignore_eos": True}


def text(events: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_an_answer_has_the_published_shape(api: Api) -> None:
    answer = api.post(PATH, **GREEDY)
    assert list(answer) == [
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
        *("prompt_logprobs", "prompt_token_ids", "kv_transfer_params"),
    ]
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "error"}
    assert choice["message"] == {
        "role": "assistant",
        "content": choice["message"]["content"],
        **dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content")),
        "tool_calls": [],
    }
    assert (answer["object"], answer["model"], choice["finish_reason"]) == ("chat.completion", "tiny", "length")
    assert answer["usage"]["completion_tokens"] == 8


def test_a_stream_says_the_same(api: Api) -> None:
    whole = api.post(PATH, **GREEDY)
    events = api.stream(PATH, **GREEDY, stream_options={"include_usage": True})
    assert text(events) == whole["choices"][0]["message"]["content"]
    assert events[0]["choices"][0]["delta"] == {"reasoning_content": None, "role": "assistant", "content": ""}
    assert [event["object"] for event in events] == ["chat.completion.chunk"] * len(events)
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_each_begin_with_their_role(api: Api, stream: bool) -> None:
    body = {**GREEDY, "n": 3}
    if not stream:
        answer = api.post(PATH, **body)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert len({choice["message"]["content"] for choice in answer["choices"]}) == 1
        assert answer["usage"]["completion_tokens"] == 24
        return
    events = api.stream(PATH, **body)
    assert [event["choices"][0]["delta"].get("role") for event in events[:3]] == ["assistant"] * 3
    assert text(events, 0) == text(events, 1) == text(events, 2) != ""


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_last_message_before_its_continuation(api: Api, stream: bool) -> None:
    messages = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "Sure: "}]}]
    body = {**GREEDY, "messages": messages, "add_generation_prompt": False, "continue_final_message": True}
    plain = api.post(PATH, **body)["choices"][0]["message"]["content"]
    if stream:
        assert text(api.stream(PATH, **body, echo=True)) == f"Sure: {plain}"
    else:
        assert api.post(PATH, **body, echo=True)["choices"][0]["message"]["content"] == f"Sure: {plain}"


def test_a_continued_message_needs_no_other_field_and_keeps_its_role(api: Api) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Sure: "}]
    body = {**GREEDY, "messages": messages, "continue_final_message": True, "return_token_ids": True}
    answer = api.post(PATH, **body)
    assert answer == {
        **api.post(PATH, **body, add_generation_prompt=False),
        "id": answer["id"],
        "created": answer["created"],
    }
    assert answer["choices"][0]["message"]["role"] == "assistant"
    prompt = api.post("/detokenize", tokens=answer["prompt_token_ids"])["prompt"]
    assert prompt.endswith("Sure: ")


def test_echo_puts_the_parts_of_a_message_on_lines_of_their_own(api: Api) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "refusal", "refusal": "two"}]
    body = {**GREEDY, "messages": [*HELLO, {"role": "assistant", "content": parts}], "continue_final_message": True}
    assert api.post(PATH, **body, echo=True)["choices"][0]["message"]["content"].startswith("one\ntwo")


def test_echo_leaves_out_a_message_of_another_role(api: Api) -> None:
    plain = api.post(PATH, **GREEDY)
    assert api.post(PATH, **GREEDY, echo=True)["choices"][0]["message"] == plain["choices"][0]["message"]


def test_without_a_generation_prompt_the_last_role_goes_on(api: Api) -> None:
    answer = api.post(PATH, **GREEDY, add_generation_prompt=False)
    assert answer["choices"][0]["message"]["role"] == "user"


def test_the_server_may_name_the_role(engine: Served) -> None:
    answer = engine.api(response_role="bot").post(PATH, **GREEDY)
    assert answer["choices"][0]["message"]["role"] == "bot"


def test_the_server_may_have_a_template_of_its_own(engine: Served) -> None:
    api = engine.api(chat_template="{% for message in messages %}{{ message.content }}{% endfor %}")
    prompt = api.post("/tokenize", prompt=HELLO[0]["content"])["tokens"]
    assert api.post("/tokenize", messages=HELLO)["tokens"] == prompt


def test_ids_and_logprobs_of_the_answer(api: Api) -> None:
    events = api.stream(PATH, **GREEDY, logprobs=True, top_logprobs=2, return_token_ids=True)
    answer = api.post(PATH, **GREEDY, logprobs=True, top_logprobs=2, return_token_ids=True)
    (choice,) = answer["choices"]
    assert [event.get("prompt_token_ids") for event in events[:2]] == [answer["prompt_token_ids"], None]
    assert len(choice["token_ids"]) == len(choice["logprobs"]["content"]) == 8
    for entry in choice["logprobs"]["content"]:
        first, second = entry["top_logprobs"]
        assert (first["token"], first["logprob"]) == (entry["token"], entry["logprob"])
        assert first["logprob"] >= second["logprob"]


def test_prompt_logprobs_stand_beside_the_choices(api: Api) -> None:
    answer = api.post(PATH, **GREEDY, prompt_logprobs=1, return_token_ids=True)
    first, *rest = answer["prompt_logprobs"]
    assert first is None
    assert [str(token) in entry for token, entry in zip(answer["prompt_token_ids"][1:], rest, strict=True)]


def test_a_stop_string_is_named_and_left_out(api: Api) -> None:
    content = api.post(PATH, **GREEDY)["choices"][0]["message"]["content"]
    stop = content[3:5]
    (choice,) = api.post(PATH, **GREEDY, stop=[stop])["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert choice["message"]["content"] == content[: content.index(stop)]
    events = api.stream(PATH, **GREEDY, stop=[stop])
    assert text(events) == choice["message"]["content"]
    assert events[-1]["choices"][0]["stop_reason"] == stop


def test_a_second_request_finds_its_prompt_cached(api: Api) -> None:
    long = [{"role": "user", "content": "Once upon a time " * 30}]
    body = {"messages": long, "max_tokens": 1, "cache_salt": "this test"}
    first, second = (api.post(PATH, **body)["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in range(2))
    assert first == 0 < second


@pytest.mark.parametrize(("stream", "after"), [(True, 0), (True, 1), (True, 3), (False, 0)])
def test_a_client_that_goes_away_ends_its_request(engine: Served, api: Api, stream: bool, after: int) -> None:
    body = {"messages": HELLO, "max_tokens": 1500, "ignore_eos": True, "stream": stream}
    with engine.aborting(choices=1):
        assert api.leave(PATH, body, after=after if stream else 0) < 1500


def test_a_template_that_writes_nothing_leaves_the_messages_to_blame(engine: Served) -> None:
    trusting = engine.api(trust_request_chat_template=True)
    error = trusting.refusal(PATH, messages=[{"role": "user", "content": "Hi"}], chat_template="{{ '' }}")
    assert (error["code"], error["param"]) == (400, "messages")
