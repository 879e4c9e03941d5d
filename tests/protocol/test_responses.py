"""The Responses API's schemas: items become what they are, mistakes are told once, and answers echo the request."""

import json
from typing import Any

import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from pydantic import TypeAdapter, ValidationError

from quire_protocol import (
    InputTokensDetails,
    OutputTokensDetails,
    RequestOutputKind,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseInProgressEvent,
    ResponseRawMessageAndToken,
    ResponseReasoningPartAddedEvent,
    ResponseReasoningPartDoneEvent,
    ResponsesRequest,
    ResponsesResponse,
    ResponseUsage,
    SamplingParams,
    StreamingResponsesResponse,
    StructuredOutputsParams,
    serialize_message,
    serialize_messages,
)

SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "a cat"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}


class Harmony:
    def to_dict(self) -> dict[str, Any]:
        return {"role": "user", "content": [{"type": "text", "text": "Hi"}]}


def problems(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        ResponsesRequest(**given)
    return [error["msg"] for error in refusal.value.errors()]


def read(item: dict[str, Any]) -> Any:
    return ResponsesRequest(input=[item]).input[0]


@pytest.mark.parametrize(
    ("item", "kind"),
    [(SAID, ResponseOutputMessage), (THOUGHT, ResponseReasoningItem), (CALL, ResponseFunctionToolCall)],
)
def test_an_output_item_of_an_earlier_answer_becomes_its_class(item: dict[str, Any], kind: type) -> None:
    found = read(item)
    assert isinstance(found, kind)
    assert found.to_dict(exclude_unset=True) == item


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "user", "content": "Hi", "own": {"key": 1}},
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_1"},
        RESULT,
    ],
)
def test_any_other_item_stays_as_it_came(item: dict[str, Any]) -> None:
    assert read(item) == item


def test_an_object_of_openai_s_stays_itself() -> None:
    call = ResponseFunctionToolCall(**CALL)
    assert read(call) is call  # type: ignore[arg-type]


def test_where_openai_says_iterable_a_list_is_built() -> None:
    checks = ({"id": "check_1"},)
    item = {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}
    assert read({**item, "acknowledged_safety_checks": checks})["acknowledged_safety_checks"] == [*checks]


def test_items_may_come_as_any_sequence() -> None:
    assert len(ResponsesRequest(input=(CALL, RESULT)).input) == 2
    assert len(ResponsesRequest(input=iter([CALL, RESULT])).input) == 2


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "input is required."),
        ({"input": None}, "input must be a list, got null."),
        ({"input": [7]}, "input.0 must be an object, got 7."),
        ({"input": ["Hi"]}, 'input.0 must be an object, got "Hi".'),
        ({"input": [{}]}, "input.0.type is required."),
        ({"input": [{"role": "user"}]}, "input.0.content is required."),
        ({"input": [CALL | {"name": 5}]}, "input.0.name must be a string, got 5."),
        (
            {"input": [THOUGHT | {"status": "odd"}]},
            "input.0.status must be 'in_progress', 'completed' or 'incomplete', got \"odd\".",
        ),
        (
            {"input": "x", "tools": [{"type": "function", "parameters": {}, "strict": True}]},
            "tools.0.name is required.",
        ),
        ({"input": "x", "tools": [{}]}, "tools.0.type is required."),
        ({"input": "x", "tool_choice": "maybe"}, "tool_choice must be 'none', 'auto' or 'required', got \"maybe\"."),
        ({"input": "x", "tool_choice": {"type": "function"}}, "tool_choice.name is required."),
        (
            {"input": "x", "background": True, "store": False},
            "a background response is fetched later, so it needs store to be true.",
        ),
        ({"input": "x", "cache_salt": ""}, 'cache_salt must be a non-empty string, got "".'),
    ],
)
def test_one_mistake_is_one_sentence(given: dict[str, Any], problem: str) -> None:
    assert problems(**given) == [problem]


def test_an_unknown_kind_of_item_is_told_the_known_ones() -> None:
    (problem,) = problems(input=[{"type": "telegram", "text": "STOP"}])
    assert problem.startswith("input.0.type must be one of ")
    assert "'function_call'" in problem
    assert "'message'" in problem
    assert problem.endswith('got "telegram".')


def test_the_caller_s_items_are_left_alone() -> None:
    items = [dict(CALL), {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    before = json.dumps(items)
    ResponsesRequest.model_validate({"input": items})
    assert json.dumps(items) == before


def test_harmony_messages_are_taken_as_objects_and_as_dicts() -> None:
    request = ResponsesRequest(input="x", previous_input_messages=[Harmony(), {"role": "user"}])
    assert json.loads(request.model_dump_json())["previous_input_messages"] == [Harmony().to_dict(), {"role": "user"}]


def test_what_is_no_message_is_no_harmony_message() -> None:
    assert problems(input="x", previous_input_messages=[5])


# --- sampling -----------------------------------------------------------------------------------------------------


def params(limit: int = 100, defaults: dict[str, Any] | None = None, **given: Any) -> SamplingParams:
    return ResponsesRequest(input="x", **given).to_sampling_params(limit, defaults)


def test_the_request_comes_before_the_server_and_the_server_before_neutral_values() -> None:
    assert (params().temperature, params().top_p, params().top_k) == (1.0, 1.0, 0)
    assert params(defaults={"temperature": 0.3, "stop_token_ids": [7]}).stop_token_ids == (7,)
    assert params(defaults={"temperature": 0.3}).temperature == 0.3
    assert params(defaults={"temperature": 0.3}, temperature=0.0).temperature == 0.0


def test_the_answer_is_as_long_as_asked_but_no_longer_than_there_is_room() -> None:
    assert params().max_tokens == 100
    assert params(max_output_tokens=7).max_tokens == 7
    assert params(max_output_tokens=7000).max_tokens == 100


def test_log_probabilities_are_reported_when_included() -> None:
    assert params(top_logprobs=3).logprobs is None
    assert params(top_logprobs=3, include=["message.output_text.logprobs"]).logprobs == 3


def test_streams_deliver_deltas() -> None:
    assert params(stream=True).output_kind is RequestOutputKind.DELTA
    assert params().output_kind is RequestOutputKind.FINAL_ONLY


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, StructuredOutputsParams(json_object=True)),
        (
            {"type": "json_schema", "name": "x", "schema": {"type": "object"}},
            StructuredOutputsParams(json={"type": "object"}),
        ),
    ],
)
def test_the_text_format_constrains_the_answer(text_format: dict[str, Any], expected: StructuredOutputsParams) -> None:
    assert params(text={"format": text_format}).structured_outputs == expected
    assert params(text={"verbosity": "low"}).structured_outputs is None


def test_logit_bias_is_by_token_id() -> None:
    assert params(logit_bias={"7": 5}).logit_bias == {7: 5.0}


# --- answers ------------------------------------------------------------------------------------------------------


def respond(status: str = "completed", request: ResponsesRequest | None = None, **given: Any) -> ResponsesResponse:
    request = request or ResponsesRequest(input="Hi", request_id="resp_1", metadata={"a": "b"}, tools=[TOOL])
    return ResponsesResponse.from_request(
        request,
        request.to_sampling_params(10),
        "m",
        5,
        [SAID],
        status,
        **given,  # type: ignore[arg-type]
    )


def test_a_response_echoes_its_request_as_settled() -> None:
    response = respond()
    assert (response.id, response.created_at, response.model) == ("resp_1", 5, "m")
    assert (response.temperature, response.top_p, response.max_output_tokens) == (1.0, 1.0, 10)
    assert response.metadata == {"a": "b"}
    assert response.tools[0].name == "look"  # type: ignore[union-attr]
    assert isinstance(response.output[0], ResponseOutputMessage)


def test_a_null_in_the_request_is_answered_with_its_default() -> None:
    request = ResponsesRequest(input="Hi", background=None, parallel_tool_calls=None, truncation=None)
    response = respond(request=request)
    assert (response.background, response.parallel_tool_calls, response.truncation) == (False, True, "disabled")


def test_an_incomplete_response_says_why() -> None:
    assert respond().incomplete_details is None
    details = respond("incomplete").incomplete_details
    assert details is not None
    assert details.reason == "max_output_tokens"


def test_openai_s_client_reads_our_response() -> None:
    usage = ResponseUsage(
        input_tokens=3,
        input_tokens_details=InputTokensDetails(cached_tokens=1),
        output_tokens=2,
        output_tokens_details=OutputTokensDetails(),
        total_tokens=5,
    )
    theirs = Response.construct(**json.loads(respond(usage=usage).model_dump_json(by_alias=True)))
    assert theirs.output_text == "Hello"
    assert theirs.usage is not None
    assert theirs.usage.total_tokens == 5


def test_messages_are_written_as_plain_data() -> None:
    response = respond(
        input_messages=[{"role": "user", "content": "Hi"}],
        output_messages=[ResponseRawMessageAndToken(message="Hello", tokens=[1, 2])],
    )
    written = json.loads(response.model_dump_json())
    assert written["input_messages"] == [{"role": "user", "content": "Hi"}]
    assert written["output_messages"] == [{"message": "Hello", "tokens": [1, 2], "type": "raw_message_tokens"}]


def test_the_serializers_know_dicts_models_and_harmony() -> None:
    raw = ResponseRawMessageAndToken(message="Hi", tokens=[1])
    assert serialize_message({"a": 1}) == {"a": 1}
    assert serialize_message(Harmony()) == Harmony().to_dict()
    assert serialize_messages([raw]) == [{"message": "Hi", "tokens": [1], "type": "raw_message_tokens"}]
    assert serialize_messages([]) is None
    assert serialize_messages(None) is None


def part_event(kind: type, name: str) -> Any:
    part = {"type": "reasoning_text", "text": "Hm"}
    return kind(type=name, part=part, content_index=0, item_id="rs_1", output_index=0, sequence_number=4)


def response_event(kind: type, name: str) -> Any:
    return kind(type=name, response=respond(), sequence_number=0)


@pytest.mark.parametrize(
    "event",
    [
        response_event(ResponseCreatedEvent, "response.created"),
        response_event(ResponseInProgressEvent, "response.in_progress"),
        response_event(ResponseCompletedEvent, "response.completed"),
        part_event(ResponseReasoningPartAddedEvent, "response.reasoning_part.added"),
        part_event(ResponseReasoningPartDoneEvent, "response.reasoning_part.done"),
    ],
    ids=lambda event: event.type,
)
def test_an_event_is_read_back_as_itself(event: Any) -> None:
    written = event.model_dump_json(by_alias=True)
    read_back = TypeAdapter(StreamingResponsesResponse).validate_json(written)
    assert type(read_back) is type(event)
    assert read_back.model_dump_json(by_alias=True) == written
