from __future__ import annotations

from typing import Any

import pytest
from tests.support.requests import beam_request, generate_request
from tests.support.scripted import VOCABULARY, scripted_decisions

from quire_engine.admission import MAX_CHOICES, MOST_ANSWERS, check_answers, check_request
from quire_engine.constraint import Constraint, Thinking
from quire_engine.errors import PromptTooLong, RequestError
from quire_engine.sequence import Rendered, RenderedRequest
from quire_protocol import GenerateRequest
from quire_protocol.sampling import StructuredOutputsParams


def refusal(request: GenerateRequest, *, has_tokenizer: bool = True, **decisions: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        check_request(request, scripted_decisions(**decisions), has_tokenizer=has_tokenizer)
    return caught.value


def test_an_ordinary_request_passes() -> None:
    check_request(generate_request([1, 2, 3], stop=("x",), logprobs=20), scripted_decisions())


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("stop_token_ids", {"stop_token_ids": (1, VOCABULARY)}),
        ("logit_bias", {"logit_bias": {VOCABULARY: 1.0}}),
        ("logit_bias", {"logit_bias": {-1: 1.0}}),
        ("allowed_token_ids", {"allowed_token_ids": (VOCABULARY,)}),
        ("bad_words_token_ids", {"bad_words": ("a",), "bad_words_token_ids": ((VOCABULARY,),)}),
    ],
)
def test_token_ids_that_no_model_knows_are_named_with_the_limit(field: str, fields: dict[str, Any]) -> None:
    error = refusal(generate_request([1], **fields))
    assert error.param == field
    assert f"from 0 to {VOCABULARY - 1}" in str(error)


@pytest.mark.parametrize("token", [-4, VOCABULARY, 2**40])
def test_a_prompt_has_only_tokens_of_the_vocabulary(token: int) -> None:
    error = refusal(generate_request([1, token]))
    assert error.param == "prompt"
    assert str(token) in str(error)


def test_an_empty_prompt_is_refused() -> None:
    assert refusal(generate_request([])).param == "prompt"


def test_a_prompt_that_fills_the_context_is_too_long() -> None:
    check_request(generate_request([1] * 9), scripted_decisions(max_model_len=10))
    error = refusal(generate_request([1] * 10), max_model_len=10)
    assert isinstance(error, PromptTooLong)
    assert "has 10 tokens" in str(error)
    assert "max_model_len" in str(error)


def test_a_prompt_that_fills_the_cache_is_too_long() -> None:
    check_request(generate_request([1] * 7), scripted_decisions(num_blocks=2))
    error = refusal(generate_request([1] * 8), num_blocks=2)
    assert isinstance(error, PromptTooLong)
    assert "kv_cache_memory_bytes" in str(error)


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
@pytest.mark.parametrize(("asked", "words"), [(21, "asks for 21"), (-1, "asks for the whole vocabulary")])
def test_more_logprobs_than_the_server_gives_are_refused(field: str, asked: int, words: str) -> None:
    error = refusal(generate_request([1], **{field: asked}))
    assert error.param == field
    assert words in str(error)
    assert "at most 20" in str(error)


def test_a_server_without_a_limit_gives_the_whole_vocabulary() -> None:
    check_request(generate_request([1], logprobs=-1), scripted_decisions(max_logprobs=-1))


def test_a_priority_needs_a_server_that_schedules_by_it() -> None:
    check_request(generate_request([1], priority=1), scripted_decisions(scheduling_policy="priority"))
    assert refusal(generate_request([1], priority=1)).param == "priority"


def test_a_stop_string_needs_a_tokenizer() -> None:
    assert refusal(generate_request([1], stop=("x",)), has_tokenizer=False).param == "stop"


@pytest.mark.parametrize(("words", "field"), [(("a",), "bad_words"), ((), "bad_words_token_ids")])
def test_bad_words_that_would_fill_the_memory_are_refused(words: tuple[str, ...], field: str) -> None:
    ids = ((1,) * 1025, *[(1,)] * 1023)
    assert refusal(generate_request([1], bad_words=words, bad_words_token_ids=ids)).param == field
    check_request(generate_request([1], bad_words=words, bad_words_token_ids=ids[1:]), scripted_decisions())


def test_stop_strings_that_would_hold_up_everybody_are_refused() -> None:
    strings = ("x" * 4096, "y" * 4096, "z" * 4096, "!" * 4096)
    check_request(generate_request([1], stop=strings), scripted_decisions())
    assert refusal(generate_request([1], stop=(*strings, "?"))).param == "stop"


def test_bad_words_without_their_ids_are_not_dropped() -> None:
    assert refusal(generate_request([1], bad_words=("x",))).param == "bad_words"


def test_a_prompt_that_nobody_truncated_is_not_taken_whole() -> None:
    assert refusal(generate_request([1, 2], truncate_prompt_tokens=1)).param == "truncate_prompt_tokens"


def test_min_tokens_beyond_the_context_are_refused() -> None:
    error = refusal(generate_request([1] * 5, min_tokens=6, max_tokens=9), max_model_len=10)
    assert error.param == "min_tokens"
    assert "room for 5" in str(error)


def test_there_is_a_limit_to_the_choices() -> None:
    assert refusal(generate_request([1], n=MAX_CHOICES + 1)).param == "n"


def test_there_is_a_limit_to_the_answers_of_one_body() -> None:
    check_answers(4, MOST_ANSWERS // 4)
    check_answers(MOST_ANSWERS, 1)
    for prompts, choices, field in ((5, MOST_ANSWERS // 4, "n"), (MOST_ANSWERS + 1, 1, "prompt")):
        with pytest.raises(RequestError, match=f"come to {prompts * choices} answers") as caught:
            check_answers(prompts, choices)
        assert caught.value.param == field


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("features", generate_request([1], features="pixels")),
        ("kv_transfer_params", generate_request([1], kv_transfer_params={"a": 1})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_built_is_refused_by_name(field: str, request_: GenerateRequest) -> None:
    error = refusal(request_)
    assert error.param == field
    assert f"{field} cannot be honoured" in str(error)


FORM = Rendered(constraint=Constraint("start: /a/", "response_format"))
BUDGET = Rendered(thinking=Thinking(limit=5, begin=(1,), end=(2,)))


def test_a_form_without_its_grammar_is_refused() -> None:
    request = generate_request([1], structured_outputs=StructuredOutputsParams(regex="a"))
    error = refusal(request)
    assert error.param == "structured_outputs"
    assert "came without its grammar" in str(error)
    check_request(RenderedRequest.of(request, FORM), scripted_decisions())


@pytest.mark.parametrize(("added", "param"), [(FORM, "response_format"), (BUDGET, "thinking_token_budget")])
def test_a_form_goes_neither_with_beams_nor_without_a_tokenizer(added: Rendered, param: str) -> None:
    check_request(RenderedRequest.of(generate_request([1]), added), scripted_decisions())
    error = refusal(RenderedRequest.of(generate_request([1]), added), has_tokenizer=False)
    assert error.param == param
    assert "needs a tokenizer" in str(error)
    error = refusal(RenderedRequest.of(beam_request([1], n=2, max_tokens=3), added))
    assert error.param == param
    assert "beam search" in str(error)


def test_logits_processors_must_be_among_those_that_the_server_allows() -> None:
    error = refusal(generate_request([1], logits_processors=("shop.a", "shop.b")), allowed_processors=("shop.a",))
    assert (error.param, '"shop.b"' in str(error)) == ("logits_processors", True)


# --- beam search


def test_a_search_passes() -> None:
    check_request(beam_request([1], n=4, stop_token_ids=(3,), logprobs=2, prompt_logprobs=0), scripted_decisions())


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("stop", {"stop": ("a",)}),
        ("min_tokens", {"min_tokens": 1}),
        ("logit_bias", {"logit_bias": {1: 1.0}}),
        ("allowed_token_ids", {"allowed_token_ids": (1,)}),
        ("bad_words", {"bad_words": ("a",), "bad_words_token_ids": ((1,),)}),
    ],
)
def test_what_forbids_answers_does_not_go_with_a_search(field: str, fields: dict[str, Any]) -> None:
    error = refusal(beam_request([1], n=2, **fields))
    assert error.param == field
    assert "does not go with beam search" in str(error)


def test_a_search_is_not_streamed() -> None:
    streamed = beam_request([1], n=2).model_copy(update={"stream": True})
    assert refusal(streamed).param == "stream"


@pytest.mark.parametrize("limit", [{"max_num_seqs": 4}, {"vocab_size": 4}])
def test_a_search_is_no_wider_than_what_can_be_computed_at_once(limit: dict[str, int]) -> None:
    check_request(beam_request([1], n=4), scripted_decisions(**limit))
    error = refusal(beam_request([1], n=5), **limit)
    assert error.param == "n"
    assert "at most 4 beams" in str(error)


@pytest.mark.parametrize("penalty", [-33.0, 33.0])
def test_a_length_penalty_keeps_scores_within_numbers(penalty: float) -> None:
    check_request(beam_request([1], n=2, length_penalty=32.0), scripted_decisions())
    assert refusal(beam_request([1], n=2, length_penalty=penalty)).param == "length_penalty"


@pytest.mark.parametrize("field", ["n", "max_tokens", "ignore_eos", "include_stop_str_in_output"])
def test_a_search_and_its_sampling_parameters_say_the_same(field: str) -> None:
    request = beam_request([1], n=2)
    asked = request.beam_search
    changed = {"n": 3, "max_tokens": 7}.get(field, True)
    other = beam_request([1], **{"n": 2, field: changed}).beam_search
    assert asked != other
    assert refusal(request.model_copy(update={"beam_search": other})).param == field


@pytest.mark.parametrize(
    "server",
    [{"logprobs_mode": "raw_logits"}, {"logprobs_mode": "processed_logits"}, {"applied_processors": ("shop.guard",)}],
)
def test_a_server_may_be_one_that_cannot_search(server: dict[str, Any]) -> None:
    assert refusal(beam_request([1], n=2), **server).param == "use_beam_search"
