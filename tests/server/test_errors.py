"""Whatever goes wrong is told in one envelope, in a sentence, by its field."""

from typing import Any

import pytest
from tests.support.served import Api, Served, error_of

from quire_engine.errors import (
    DeadlineUnreachable,
    EngineStopped,
    Overloaded,
    PromptTooLong,
    QuireError,
    RequestError,
)
from quire_protocol import ERROR_REASONS
from quire_server.errors import AnswerFailed, DeadlineExceeded, ModelNotFound, ShuttingDown, describe, headers_of
from quire_server.kept import NoPlace

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
TOKENS = "/inference/v1/generate"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("error", "status", "kind", "param"),
    [
        (RequestError("no.", param="n"), 400, "BadRequestError", "n"),
        (PromptTooLong("long.", param="prompt"), 400, "BadRequestError", "prompt"),
        (ModelNotFound("who?", param="model"), 404, "NotFoundError", "model"),
        (Overloaded("full."), 429, "RateLimitError", None),
        (EngineStopped("gone."), 503, "ServiceUnavailableError", None),
        (AnswerFailed("broken."), 500, "InternalServerError", None),
        (QuireError("other."), 500, "InternalServerError", None),
    ],
)
def test_each_of_our_exceptions_has_a_status(error: QuireError, status: int, kind: str, param: str | None) -> None:
    info = describe(error).error
    assert (info.message, info.code, info.type, info.param) == (str(error), status, kind, param)


@pytest.mark.parametrize(
    ("error", "status", "reason", "headers"),
    [
        (Overloaded("full.", retry_after=2.1), 429, "queue_full", {"Retry-After": "3"}),
        (Overloaded("full.", retry_after=0.0), 429, "queue_full", {"Retry-After": "1"}),
        (DeadlineUnreachable("late.", retry_after=5.0), 429, "deadline_unreachable", {"Retry-After": "5"}),
        (NoPlace("kept.", retry_after=1.0), 429, "too_many_kept", {"Retry-After": "1"}),
        (DeadlineExceeded("late."), 504, "deadline_exceeded", {"x-should-retry": "false"}),
        (ShuttingDown("bye.", retry_after=4.0), 503, "shutting_down", {"Retry-After": "4", "Connection": "close"}),
        (AnswerFailed("broken."), 500, "faulty_request", {"x-should-retry": "false"}),
        (RequestError("no."), 400, None, {}),
        (EngineStopped("gone."), 503, None, {}),
        (ZeroDivisionError(), 500, None, {}),
    ],
)
def test_who_would_ask_again_is_told_why_and_when_or_not_to(
    error: Exception, status: int, reason: str | None, headers: dict[str, str]
) -> None:
    info = describe(error).error
    assert (info.code, info.reason, headers_of(error)) == (status, reason, headers)
    assert reason is None or reason in ERROR_REASONS


def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    info = describe(ZeroDivisionError("/home/somebody/secret.py")).error
    assert (info.code, info.message) == (500, "The server met an error of its own.")
    assert "secret.py" in caplog.text


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "broken"}], ids=["plain", "kept"])
def test_what_nobody_foresaw_is_told_with_all_that_other_answers_carry(engine: Served, key: dict[str, str]) -> None:
    api = engine.api(allowed_origins=("https://app.test",))

    @api.app.post("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    answer = api.request("POST", "/broken", headers={"X-Request-Id": "mine", "Origin": "https://app.test", **key})
    assert (answer.status_code, error_of(answer)["message"]) == (500, "The server met an error of its own.")
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert answer.headers["server-timing"].startswith("total;dur=")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {}, "messages"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"content": "x"}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "bogus"}]}]}, "messages.0.content.0.type"),
        (CHAT, {"messages": HELLO, "temperature": -1}, "temperature"),
        (CHAT, {"messages": HELLO, "top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"messages": HELLO, "logprobs": True, "top_logprobs": 50}, "top_logprobs"),
        (CHAT, {"messages": HELLO, "tool_choice": "auto"}, "tool_choice"),
        (CHAT, {"messages": HELLO, "cache_salt": ""}, "cache_salt"),
        (CHAT, {"messages": HELLO, "chat_template": "{{ messages }}"}, "chat_template"),
        (CHAT, {"messages": HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"messages": HELLO, "max_completion_tokens": 10**6}, "max_completion_tokens"),
        (TEXT, {"prompt": ""}, "prompt"),
        (TEXT, {"prompt": [1, "x"]}, "prompt.1"),
        (TEXT, {"prompt": [-4]}, "prompt.0"),
        (TEXT, {"prompt": [10**6]}, "prompt"),
        (TEXT, {"prompt": [7] * 3000}, "prompt"),
        (TEXT, {"prompt": "x", "max_tokens": 0}, "max_tokens"),
        (TEXT, {"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        (TEXT, {"prompt": "x", "n": 0}, "n"),
        (TEXT, {"prompt": "x", "n": 10**6}, "n"),
        (TEXT, {"prompt": "x", "top_p": 0}, "top_p"),
        (TEXT, {"prompt": "x", "logprobs": 30}, "logprobs"),
        (TEXT, {"prompt": "x", "priority": 3}, "priority"),
        (TEXT, {"prompt": "x", "logit_bias": {"x": 1}}, "logit_bias"),
        (TEXT, {"prompt": "x", "allowed_token_ids": []}, "allowed_token_ids"),
        (TEXT, {"prompt": "x", "min_tokens": 9, "max_tokens": 3}, "min_tokens"),
        (TEXT, {"prompt": "x", "seed": 2**70}, "seed"),
        (TOKENS, {"token_ids": [4]}, "sampling_params"),
        (TOKENS, {"token_ids": [], "sampling_params": {}}, "token_ids"),
        (TOKENS, {"token_ids": [4], "sampling_params": {"temperature": 9}}, "sampling_params.temperature"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"messages": HELLO, "add_generation_prompt": True, "continue_final_message": True}, None),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/detokenize", {"tokens": [10**6]}, "tokens"),
    ],
)
def test_a_wrong_value_is_400_at_its_field(api: Api, path: str, body: dict[str, Any], param: str | None) -> None:
    error = api.refusal(path, **body)
    assert error["code"] == 400
    assert param is None or error["param"] == param
    assert not any(trace in error["message"] for trace in ("{'", "ctx", "Traceback", "/site-packages", "Value error"))


@pytest.mark.parametrize("body", [{"logprobs": 30}, {"temperature": 5}, {"max_tokens": 10**5}, {"n": 0}])
def test_a_refusal_is_the_same_when_a_stream_was_asked_for(api: Api, body: dict[str, Any]) -> None:
    assert api.refusal(TEXT, prompt="x", stream=True, **body) == api.refusal(TEXT, prompt="x", **body)


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b"{nope", "application/json", "The body is not JSON: "),
        (b"", "application/json", "The body is empty"),
        (b"[1]", "application/json", "the body must be an object"),
        (b"\xff\xfe", "application/json", "The body is not JSON: "),
        (b'{"prompt": "\\ud800"}', "application/json", "The body is not JSON: "),
        (b"[" * 100_000, "application/json", "The body's lists and objects are more than 200 levels deep"),
        (b"prompt=x", "application/x-www-form-urlencoded", "The body's Content-Type must be application/json"),
        (b"{}", "", "The body's Content-Type must be application/json, and the request names none."),
    ],
)
def test_a_body_that_is_no_json_is_400(api: Api, content: bytes, kind: str, told: str) -> None:
    answer = api.request("POST", TEXT, content=content, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400
    assert error_of(answer)["message"].startswith(told)


def test_several_problems_are_told_at_once(api: Api) -> None:
    error = api.refusal(TEXT, prompt="x", max_tokens="many", temperature="hot")
    assert "max_tokens must be an integer" in error["message"]
    assert "temperature must be a number" in error["message"]


def test_a_model_that_is_not_served_is_404(api: Api) -> None:
    error = api.refusal(CHAT, messages=HELLO, model="nope")
    assert (error["code"], error["param"]) == (404, "model")
    assert error["message"] == 'There is no model "nope" here, but tiny.'


@pytest.mark.parametrize("path", ["/v1/nope", "/v1/responses", "/", "/v1//completions"])
def test_a_route_that_is_not_there_is_404(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert error_of(answer)["type"] == "NotFoundError"


def test_a_method_that_a_route_does_not_take_is_405(api: Api) -> None:
    answer = api.get(TEXT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert error_of(answer)["message"] == "/v1/completions does not take GET; use POST."
