"""The language of the engine: one prompt as token ids, and how to continue it."""

from typing import Any

import pytest
from pydantic import ValidationError

from quire_protocol import GenerateRequest, GenerateResponse, SamplingParams


def refusal_of(body: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        GenerateRequest.model_validate(body)
    return [error["msg"] for error in refusal.value.errors()]


def test_a_request_survives_json() -> None:
    request = GenerateRequest(token_ids=[1, 2], sampling_params=SamplingParams(seed=3, stop=("a",)), cache_salt="s")
    assert GenerateRequest.model_validate_json(request.model_dump_json()) == request


def test_a_request_is_frozen() -> None:
    request = GenerateRequest(token_ids=[1], sampling_params=SamplingParams())
    with pytest.raises(ValidationError):
        request.token_ids = [2]  # type: ignore[misc]


def test_unknown_fields_are_kept() -> None:
    request = GenerateRequest.model_validate({"token_ids": [1], "sampling_params": {}, "colour": "red"})
    assert request.model_extra == {"colour": "red"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"token_ids": [1]}, "sampling_params is required."),
        ({"token_ids": [1, "a"], "sampling_params": {}}, 'token_ids.1 must be an integer, got "a".'),
        (
            {"token_ids": [1], "sampling_params": {"temperature": 3}},
            "sampling_params.temperature must be at most 2, got 3.",
        ),
        (
            {"token_ids": [1], "sampling_params": {"min_tokens": 20}},
            "sampling_params.min_tokens must be at most max_tokens, which is 16, got 20.",
        ),
        (
            {"token_ids": [1], "sampling_params": {"best_of": 2}},
            "sampling_params.best_of is not a known field.",
        ),
        ({"token_ids": [1], "sampling_params": {}, "cache_salt": ""}, 'cache_salt must be a non-empty string, got "".'),
    ],
)
def test_a_refusal_has_the_whole_path(body: dict[str, Any], said: str) -> None:
    assert refusal_of(body) == [said]


def test_an_answer_survives_json() -> None:
    response = GenerateResponse.model_validate({"choices": [{"index": 0, "token_ids": [5], "finish_reason": "length"}]})
    assert GenerateResponse.model_validate_json(response.model_dump_json()) == response
