"""Text completion requests: their prompts, and what they mean for sampling."""

from typing import Any

import pytest
from pydantic import ValidationError

from quire_protocol import BeamSearchParams, CompletionRequest, CompletionResponse, Logprob, SamplingParams


def complete(**given: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "Hi", **given})


def refusal_of(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        complete(**given)
    return [error["msg"] for error in refusal.value.errors()]


@pytest.mark.parametrize("prompt", ["Hi", ["Hi", "Ho"], [1, 2], [[1, 2], [3]], [""]])
def test_a_prompt_has_four_forms(prompt: Any) -> None:
    assert complete(prompt=prompt).prompt == prompt


@pytest.mark.parametrize("prompt", [None, "", []])
def test_nothing_is_no_prompt(prompt: Any) -> None:
    assert refusal_of(prompt=prompt) == ["prompt must not be empty: give text, token ids or prompt_embeds."]
    assert complete(prompt=prompt, prompt_embeds="AAAA").prompt == prompt


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"prompt": 5},
            "prompt must be a string, a list of strings, a list of token ids or a list of such lists, got 5.",
        ),
        ({"prompt": [1, "a"]}, 'prompt.1 must be an integer, got "a".'),
        ({"prompt": ["a", 1]}, "prompt.1 must be a string, got 1."),
        ({"prompt": [[1], 2]}, "prompt.1 must be a list, got 2."),
        ({"prompt": [[1, None]]}, "prompt.0.1 must be an integer, got null."),
        ({"logprobs": -2}, "logprobs must be at least 0, or -1 for all, got -2."),
        ({"logprobs": "a"}, 'logprobs must be an integer, got "a".'),
        ({"max_tokens": "many"}, 'max_tokens must be an integer, got "many".'),
        ({"n": None}, "n must be an integer, got null."),
    ],
)
def test_a_refusal_names_the_value(given: dict[str, Any], said: str) -> None:
    assert refusal_of(**given) == [said]


@pytest.mark.parametrize(
    ("given", "logprobs", "prompt_logprobs"),
    [
        ({}, None, None),
        ({"logprobs": 2}, 2, None),
        ({"logprobs": 2, "echo": True}, 2, 2),
        ({"logprobs": 2, "echo": True, "prompt_logprobs": 1}, 2, 1),
        ({"echo": True}, None, None),
    ],
)
def test_an_echo_reports_the_prompt_as_it_does_the_answer(
    given: dict[str, Any], logprobs: int | None, prompt_logprobs: int | None
) -> None:
    params = complete(**given).to_sampling_params(50, None)
    assert (params.logprobs, params.prompt_logprobs) == (logprobs, prompt_logprobs)


def test_an_echo_without_an_answer_draws_one_token() -> None:
    assert complete(echo=True, max_tokens=0).to_sampling_params(0, None).max_tokens == 1
    with pytest.raises(ValidationError, match="max_tokens must be at least 1, got 0"):
        complete(max_tokens=0).to_sampling_params(0, None)


def test_the_server_s_defaults_settle_what_is_left_open() -> None:
    params = complete(top_p=0.5).to_sampling_params(50, None, {"top_p": 0.9, "temperature": 0.3})
    assert (params.top_p, params.temperature) == (0.5, 0.3)
    neutral = SamplingParams(max_tokens=50, output_kind=params.output_kind)
    assert complete().to_sampling_params(50, None) == neutral


def test_a_beam_search_has_a_beam_for_each_answer() -> None:
    expected = BeamSearchParams(beam_width=2, max_tokens=50, temperature=1.0)
    assert complete(n=2).to_beam_search_params(50) == expected


def test_prompt_log_probabilities_are_written_by_token_id() -> None:
    response = CompletionResponse(
        model="m",
        choices=[{"index": 0, "text": "a", "prompt_logprobs": [None, {7: Logprob(-0.5, rank=1, decoded_token="b")}]}],
        usage={},
    )
    written = response.model_dump(mode="json")["choices"][0]["prompt_logprobs"]
    assert written == [None, {"7": {"logprob": -0.5, "rank": 1, "decoded_token": "b"}}]
    assert CompletionResponse.model_validate_json(response.model_dump_json()) == response


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"prompt": "ab"}, 1),
        ({"prompt": [1, 2]}, 1),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": [[1], [2], [3]]}, 3),
        ({"prompt_embeds": b"AAAA"}, 1),
        ({"prompt": "a", "prompt_embeds": [b"AAAA", b"AAAA"]}, 3),
    ],
    ids=str,
)
def test_prompts_are_counted_in_whichever_form(fields, count):
    assert CompletionRequest(**fields).prompt_count == count
