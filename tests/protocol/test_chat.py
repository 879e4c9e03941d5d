"""Chat requests: what they mean for sampling, and what they refuse. Chat answers: what they emit."""

from typing import Any

import pytest
from openai.types.chat.chat_completion_audio import ChatCompletionAudio as OpenAIAudio
from openai.types.chat.chat_completion_message import Annotation as OpenAIAnnotation
from pydantic import ValidationError

from quire_protocol import (
    BeamSearchParams,
    ChatCompletionRequest,
    ChatCompletionStreamResponse,
    ChatMessage,
    DeltaMessage,
    RequestOutputKind,
    SamplingParams,
)

MESSAGES = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "look"}}


def chat(**given: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate({"messages": MESSAGES, **given})


def refusal_of(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        chat(**given).to_sampling_params(16, None)
    return [error["msg"] for error in refusal.value.errors()]


@pytest.mark.parametrize("top_logprobs", [None, 0])
def test_logprobs_need_no_number(top_logprobs: int | None) -> None:
    params = chat(logprobs=True, top_logprobs=top_logprobs).to_sampling_params(1, None)
    assert params.logprobs == 0
    assert chat(logprobs=False, top_logprobs=top_logprobs).to_sampling_params(1, None).logprobs is None


def test_a_plain_request_samples_neutrally_and_answers_at_once() -> None:
    expected = SamplingParams(max_tokens=50, output_kind=RequestOutputKind.FINAL_ONLY)
    assert chat().to_sampling_params(50, None) == expected


def test_the_server_s_defaults_settle_what_is_left_open() -> None:
    defaults = {"temperature": 0.3, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1, "max_new_tokens": 3}
    params = chat(temperature=0.5).to_sampling_params(50, None, defaults)
    assert (params.temperature, params.top_k, params.top_p, params.min_p) == (0.5, 7, 1.0, 0.1)
    assert (params.repetition_penalty, params.max_tokens) == (1.1, 50)


def test_what_is_asked_is_what_is_sampled() -> None:
    asked = {
        "n": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 5,
        "ignore_eos": True,
        "min_tokens": 3,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "include_stop_str_in_output": True,
        "truncate_prompt_tokens": 9,
        "stop": ["a"],
        "stop_token_ids": [7],
        "bad_words": ["b"],
        "allowed_token_ids": [1, 2],
        "logit_bias": {"5": 1.0},
    }
    params = chat(**asked, stream=True).to_sampling_params(50, None)
    assert params == SamplingParams.from_optional(**asked, max_tokens=50, output_kind=RequestOutputKind.DELTA)


@pytest.mark.parametrize(
    ("given", "logprobs", "prompt_logprobs"),
    [
        ({}, None, None),
        ({"logprobs": True}, 0, None),
        ({"logprobs": True, "top_logprobs": 3}, 3, None),
        ({"logprobs": True, "top_logprobs": 3, "echo": True}, 3, 3),
        ({"echo": True, "prompt_logprobs": 1}, None, 1),
        ({"prompt_logprobs": -1}, None, -1),
    ],
)
def test_log_probabilities_are_reported_as_asked(
    given: dict[str, Any], logprobs: int | None, prompt_logprobs: int | None
) -> None:
    params = chat(**given).to_sampling_params(50, None)
    assert (params.logprobs, params.prompt_logprobs) == (logprobs, prompt_logprobs)


def test_extra_arguments_and_transfer_parameters_travel_together() -> None:
    xargs = {"speed": [1, "fast"]}
    params = chat(vllm_xargs=xargs, kv_transfer_params={"to": "there"}).to_sampling_params(50, None)
    assert params.extra_args == {"speed": [1, "fast"], "kv_transfer_params": {"to": "there"}}
    assert xargs == {"speed": [1, "fast"]}
    assert chat().to_sampling_params(50, None).extra_args is None


def test_a_beam_search_has_a_beam_for_each_answer() -> None:
    request = chat(n=3, use_beam_search=True, length_penalty=0.5, ignore_eos=True)
    expected = BeamSearchParams(beam_width=3, max_tokens=50, ignore_eos=True, temperature=0.2, length_penalty=0.5)
    assert request.to_beam_search_params(50, {"temperature": 0.2}) == expected
    assert chat(n=None).to_beam_search_params(50).beam_width == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"messages": None}, "messages must be a list, got null."),
        ({"temperature": -1}, "temperature must be at least 0, got -1."),
        ({"logprobs": "5"}, 'logprobs must be true or false, got "5".'),
        ({"prompt_logprobs": "a"}, 'prompt_logprobs must be an integer, got "a".'),
        ({"prompt_logprobs": -2}, "prompt_logprobs must be at least 0, or -1 for all, got -2."),
        ({"top_logprobs": -2}, "top_logprobs must be at least 0, or -1 for all, got -2."),
        ({"cache_salt": ""}, 'cache_salt must be a non-empty string, got "".'),
        ({"reasoning_effort": "max"}, "reasoning_effort must be 'low', 'medium' or 'high', got \"max\"."),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens must be at least -1, got -2."),
        ({"seed": 2**63}, f"seed must be at most {2**63 - 1}, got {2**63}."),
        ({"tools": [{}]}, "tools.0.function is required."),
        ({"tools": "look"}, 'tools must be a list, got "look".'),
        ({"vllm_xargs": {"a": {}}}, "vllm_xargs.a must be a string, an integer, a number or a list, got an object."),
        (
            {"tools": [TOOL], "tool_choice": {"function": {"name": "jump"}}},
            'tool_choice.function.name must be the name of one of the tools (look), got "jump".',
        ),
        (
            {"tools": [TOOL], "tool_choice": {"function": {"name": "look"}}, "structured_outputs": {"regex": "a"}},
            "structured_outputs and a named tool_choice both set the answer's form: keep one of them.",
        ),
        (
            {"tools": [TOOL], "tool_choice": "required", "structured_outputs": {"regex": "a"}},
            "structured_outputs and a required tool_choice both set the answer's form: keep one of them.",
        ),
        (
            {"tools": [TOOL], "tool_choice": "sometimes"},
            "tool_choice must be 'none', 'auto' or 'required' or an object, got \"sometimes\".",
        ),
        (
            {"thinking_token_budget": -2},
            "thinking_token_budget must be at least 0, or -1 for no limit, got -2.",
        ),
        (
            {"tool_choice": "auto"},
            "tool_choice needs tools to choose from: give tools, or leave tool_choice out.",
        ),
        (
            {"top_logprobs": 1},
            "top_logprobs need logprobs: set logprobs to true as well, or leave them out.",
        ),
        (
            {"stream_options": {"include_usage": True}},
            "stream_options say how to stream: set stream to true as well, or leave them out.",
        ),
        (
            {"prompt_logprobs": 1, "stream": True},
            "prompt_logprobs come with whole answers only: set stream to false, or leave them out.",
        ),
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message and add_generation_prompt exclude each other: set one of them to false.",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_the_way_out(given: dict[str, Any], said: str) -> None:
    assert refusal_of(**given) == [said]


def test_empty_stream_options_ask_for_usage() -> None:
    options = chat(stream=True, stream_options={}).stream_options
    assert options is not None
    assert options.include_usage is True
    assert chat(stream_options={}).stream_options == options


def test_continuing_the_final_message_begins_no_new_one() -> None:
    assert chat(continue_final_message=True).add_generation_prompt is False
    assert chat(continue_final_message=True, add_generation_prompt=False).add_generation_prompt is False
    assert chat().add_generation_prompt is True


def test_tools_are_chosen_freely_unless_said_otherwise() -> None:
    assert chat(tools=[TOOL]).tool_choice == "auto"
    assert chat(tools=[TOOL], tool_choice=None).tool_choice is None
    assert chat().tool_choice == "none"


def test_reading_max_tokens_warns_of_nothing_although_it_is_deprecated() -> None:
    assert chat(max_tokens=5).max_tokens == 5
    assert ChatCompletionRequest.model_json_schema()["properties"]["max_tokens"]["deprecated"] is True


@pytest.mark.parametrize("message", [ChatMessage, DeltaMessage])
@pytest.mark.parametrize(
    ("given", "emitted"),
    [
        ({"reasoning": "hm"}, ("hm", "hm")),
        ({"reasoning_content": "hm"}, ("hm", "hm")),
        ({"reasoning": "new", "reasoning_content": "old"}, ("new", "old")),
        ({}, (None, None)),
    ],
)
def test_reasoning_has_two_names(
    message: type[ChatMessage | DeltaMessage], given: dict[str, str], emitted: tuple[str | None, str | None]
) -> None:
    told = message(role="assistant", **given)
    assert (told.reasoning, told.reasoning_content) == emitted


def test_a_stream_shows_what_was_set_and_the_older_name_of_reasoning() -> None:
    chunk = ChatCompletionStreamResponse(model="m", choices=[{"index": 0, "delta": {"content": "a"}}])
    (choice,) = chunk.model_dump(exclude_unset=True)["choices"]
    assert choice["delta"] == {"content": "a", "reasoning_content": None}


def test_openai_s_own_annotations_and_sounds_are_taken() -> None:
    citation = {"end_index": 1, "start_index": 0, "title": "t", "url": "u"}
    annotation = {"type": "url_citation", "url_citation": citation}
    sound = {"id": "a", "data": "AAAA", "expires_at": 1, "transcript": "Hi"}
    message = ChatMessage.model_validate(
        {
            "role": "assistant",
            "annotations": OpenAIAnnotation.model_validate(annotation),
            "audio": OpenAIAudio.model_validate(sound),
        }
    )
    assert message.model_dump(include={"annotations", "audio"}) == {"annotations": annotation, "audio": sound}
