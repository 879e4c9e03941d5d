"""Sampling parameters are checked when they are made, and stay as they are."""

import dataclasses
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from quire_protocol import BeamSearchParams, RequestOutputKind, SamplingParams, StructuredOutputsParams


def refusal_of(**given: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refusal:
        SamplingParams.from_optional(**given)
    (error,) = refusal.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, "n must be at least 1, got 0."),
        ("presence_penalty", 3, "presence_penalty must be at most 2, got 3."),
        ("presence_penalty", -2.5, "presence_penalty must be at least -2, got -2.5."),
        ("frequency_penalty", -3, "frequency_penalty must be at least -2, got -3."),
        ("repetition_penalty", 0, "repetition_penalty must be greater than 0, got 0."),
        ("repetition_penalty", float("inf"), "repetition_penalty must be a finite number, got inf."),
        ("temperature", -1, "temperature must be at least 0, got -1."),
        ("temperature", 2.5, "temperature must be at most 2, got 2.5."),
        ("temperature", "hot", 'temperature must be a number, got "hot".'),
        ("temperature", float("nan"), "temperature must be at most 2, got nan."),
        ("top_p", 0, "top_p must be greater than 0, got 0."),
        ("top_p", 1.1, "top_p must be at most 1, got 1.1."),
        ("top_k", -2, "top_k must be at least -1, got -2."),
        ("min_p", 3, "min_p must be at most 1, got 3."),
        ("seed", 2**63, f"seed must be at most {2**63 - 1}, got {2**63}."),
        ("max_tokens", 0, "max_tokens must be at least 1, got 0."),
        ("min_tokens", -1, "min_tokens must be at least 0, got -1."),
        ("min_tokens", 17, "min_tokens must be at most max_tokens, which is 16, got 17."),
        ("logprobs", -2, "logprobs must be at least -1, got -2."),
        ("prompt_logprobs", -2, "prompt_logprobs must be at least -1, got -2."),
        ("allowed_token_ids", [], "allowed_token_ids must be a non-empty list, got a list of 0."),
        ("truncate_prompt_tokens", -2, "truncate_prompt_tokens must be at least -1, got -2."),
        ("temprature", 1, "temprature is not a known field."),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_bound(field: str, value: object, message: str) -> None:
    assert refusal_of(**{field: value}) == (field, message)


def test_a_truncation_that_leaves_nothing_is_refused() -> None:
    assert refusal_of(truncate_prompt_tokens=0)[0] == "truncate_prompt_tokens"


@pytest.mark.parametrize("field", ["stop", "bad_words"])
def test_strings_to_look_for_are_not_empty(field: str) -> None:
    assert refusal_of(**{field: ["a", ""]}) == (f"{field}.1", f'{field}.1 must be a non-empty string, got "".')


def test_stop_strings_need_text() -> None:
    assert refusal_of(stop="a", detokenize=False)[0] == "stop"


def test_none_stands_for_the_default_and_for_no_limit() -> None:
    assert SamplingParams.from_optional(temperature=None, stop=None, n=None) == SamplingParams()
    assert SamplingParams().max_tokens == 16
    assert SamplingParams.from_optional(max_tokens=None).max_tokens is None


def test_one_stop_string_is_a_list_of_one() -> None:
    assert SamplingParams.from_optional(stop="\n\n").stop == ("\n\n",)


def test_a_seed_of_minus_one_is_none() -> None:
    assert SamplingParams(seed=-1).seed is None
    assert SamplingParams(seed=-2).seed == -2


def test_biases_have_token_ids_as_keys_and_are_cut() -> None:
    assert SamplingParams.from_optional(logit_bias={"5": 1000, 6: -1000.0, "7": 0.5}).logit_bias == {
        5: 100.0,
        6: -100.0,
        7: 0.5,
    }
    assert refusal_of(logit_bias={"x": 1}) == ("logit_bias", 'logit_bias must have token ids as keys, got "x".')
    assert refusal_of(logit_bias={"5": "much"})[0] == "logit_bias.5"
    assert refusal_of(logit_bias={"5": float("nan")})[0] == "logit_bias.5"


def test_a_bias_dict_stays_as_it_is() -> None:
    biases = {"5": 1000.0}
    SamplingParams.from_optional(logit_bias=biases)
    assert biases == {"5": 1000.0}


@pytest.mark.parametrize(("temperature", "greedy"), [(0, True), (1e-6, False), (1, False)])
def test_only_a_temperature_of_zero_is_greedy(temperature: float, greedy: bool) -> None:
    assert SamplingParams(temperature=temperature).greedy is greedy


def test_several_greedy_answers_may_be_asked_for() -> None:
    assert SamplingParams(n=2, temperature=0).n == 2


def test_parameters_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingParams().temperature = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    "given",
    [
        {"json": {"type": "object"}},
        {"json": "{}"},
        {"regex": "a+"},
        {"choice": ["yes", "no"]},
        {"grammar": "root ::= 'a'"},
        {"json_object": True},
        {"structural_tag": "{}"},
        {"json_object": False, "regex": "a"},
    ],
)
def test_one_constraint_is_one(given: dict[str, Any]) -> None:
    assert len(StructuredOutputsParams(**given).constraints) == 1


def test_two_constraints_are_one_too_many() -> None:
    place, message = refusal_of(structured_outputs={"grammar": "a", "json_object": True})
    assert place == "structured_outputs"
    assert message == "structured_outputs takes one constraint, got grammar and json_object: keep one of them."


def test_a_choice_of_nothing_is_refused() -> None:
    assert refusal_of(structured_outputs={"choice": []})[0] == "structured_outputs.choice"


def test_parameters_survive_json() -> None:
    adapter = TypeAdapter(SamplingParams)
    params = SamplingParams.from_optional(
        stop=["a"],
        logit_bias={5: 1.0},
        structured_outputs={"choice": ["x", "y"]},
        output_kind=RequestOutputKind.DELTA,
        bad_words_token_ids=[[1, 2]],
        max_tokens=None,
    )
    assert adapter.validate_json(adapter.dump_json(params)) == params


def test_every_parameter_is_described_in_the_json_schema() -> None:
    for params in (SamplingParams, BeamSearchParams, StructuredOutputsParams):
        shown = TypeAdapter(params).json_schema()["properties"]
        assert [name for name, field in shown.items() if "description" not in field] == []


@pytest.mark.parametrize("given", [{"beam_width": 0, "max_tokens": 1}, {"beam_width": 1, "max_tokens": 0}])
def test_a_beam_search_needs_beams_and_tokens(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BeamSearchParams(**given)
