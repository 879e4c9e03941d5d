"""The schemas are the seed's: every model, field, validator and alias of `seed_facts.json`, save for what is said here.

Types are compared by meaning: annotations are left out, unions have no order, a name stands for what it names, and a
bare dict has strings as keys, as JSON has.
"""

import io
import json
import re
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import quire_protocol
from quire_protocol import responses, unknown_fields

FACTS = json.loads(Path(__file__).with_name("seed_facts.json").read_text())
FIELDS = [(model, name) for model, facts in FACTS["models"].items() for name in facts["fields"]]
VALIDATORS = [(model, name) for model, facts in FACTS["models"].items() for name in facts["validators"]]
DEVIATIONS = Path(__file__).parents[2] / "packages/protocol/DEVIATIONS.md"

DIFFERENT = {
    "UploadFile": quire_protocol.AudioFile,  # so that fastapi is not needed
    "OpenAIAnnotation": quire_protocol.Annotation,  # so that a chat does not import openai
    "OpenAIChatCompletionAudio": quire_protocol.ChatCompletionAudio,  # so that a chat does not import openai
}
"""The seed's types that are others here, as DEVIATIONS.md says too. There is no other difference of type."""

NOT_SCHEMAS = {"logger", "_LONG_INFO"}
"""Names of the seed's that are no part of a schema: a logger, and the bounds of 64 bits that our `Int64` holds."""


def named(name: str) -> Any:
    """What a name in the facts stands for here."""
    return getattr(quire_protocol, name) if name in quire_protocol.__all__ else vars(responses)[name]


class Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return named(name)


def meaning(annotation: Any) -> Any:
    """A type as a value that compares equal for types that mean the same."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return meaning(arguments[0])
    if origin in (Union, types.UnionType):
        flat: set[Any] = set()
        for part in map(meaning, arguments):
            flat |= part if isinstance(part, frozenset) else {part}
        return frozenset(flat)
    if origin is Literal:
        return frozenset(("literal", value) for value in arguments)
    if origin is not None:
        return (origin, *map(meaning, arguments))
    return (dict, str, Any) if annotation is dict else type(None) if annotation is None else annotation


def seed_meaning(text: str) -> Any:
    scope = Names(DIFFERENT, Any=Any, Literal=Literal, str=str, int=int, float=float, bool=bool, bytes=bytes)
    scope |= {"list": list, "dict": dict, "None": None}
    return meaning(eval(text, {"__builtins__": {}}, scope))


def bounds(info: FieldInfo) -> dict[str, Any]:
    """The least and the greatest value of a field, wherever in its annotation they stand."""

    def within(annotation: Any) -> list[Any]:
        found = list(getattr(annotation, "__metadata__", ()))
        for argument in get_args(annotation):
            found += within(argument)
        return [piece for part in found for piece in (part.metadata if isinstance(part, FieldInfo) else [part])]

    found: dict[str, Any] = {}
    for mark in (*info.metadata, *within(info.annotation)):
        if isinstance(mark, Ge):
            found["ge"] = mark.ge
        elif isinstance(mark, Le):
            found["le"] = mark.le
    return found


def deprecated(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return bool(info.deprecated or (isinstance(extra, dict) and extra.get("deprecated")))


def test_the_facts_are_whole() -> None:
    assert len(FACTS["models"]) == 78
    assert len(FIELDS) == 478
    assert len(VALIDATORS) == 23
    assert len(FACTS["aliases"]) == 12


@pytest.mark.parametrize("model", FACTS["models"])
def test_a_model_has_the_seed_s_fields_and_methods(model: str) -> None:
    ours = named(model)
    assert issubclass(ours, BaseModel)
    assert {*ours.model_fields} >= {*FACTS["models"][model]["fields"]}
    for method in FACTS["models"][model]["methods"]:
        assert callable(getattr(ours, method))


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_a_field_has_the_seed_s_type(model: str, name: str) -> None:
    ours = named(model).model_fields[name].annotation
    assert meaning(ours) == seed_meaning(FACTS["models"][model]["fields"][name]["type"])


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_a_field_has_the_seed_s_default_alias_and_bounds(model: str, name: str) -> None:
    facts, ours = FACTS["models"][model]["fields"][name], named(model).model_fields[name]
    assert ours.is_required() is facts.get("required", False)
    if "default" in facts:
        assert ours.get_default(call_default_factory=True) == facts["default"]
    if "made" in facts:
        assert_made(ours, facts["made"])
    assert ours.alias == facts.get("alias")
    assert bounds(ours) == {bound: facts[bound] for bound in ("ge", "le") if bound in facts}
    assert deprecated(ours) is facts.get("deprecated", False)


def assert_made(ours: FieldInfo, made: str) -> None:
    first, second = (ours.get_default(call_default_factory=True) for _ in range(2))
    if made == "an empty list":
        assert first == [] == second
        assert first is not second
    elif made == "now":
        assert abs(first - time.time()) < 60
    else:
        assert re.fullmatch(re.escape(made).replace("<uuid>", "[0-9a-f]{32}"), first)
        assert first != second


@pytest.mark.parametrize("alias", [alias for alias in FACTS["aliases"] if alias not in NOT_SCHEMAS])
def test_an_alias_names_what_it_does_in_the_seed(alias: str) -> None:
    assert meaning(named(alias)) == seed_meaning(FACTS["aliases"][alias])


@pytest.mark.parametrize("function", FACTS["functions"])
def test_a_function_of_the_seed_is_there(function: str) -> None:
    assert callable(named(function))


@pytest.mark.parametrize("name", [*DIFFERENT, "ChatCompletionRequest.max_tokens"])
def test_a_deliberate_difference_is_explained(name: str) -> None:
    assert name in DEVIATIONS.read_text()


# --- validators ---------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
LOOK = {"type": "function", "function": {"name": "look"}}
CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
RESPONSE = {
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "background": False,
    "max_output_tokens": 1,
    "service_tier": "auto",
    "status": "completed",
    "truncation": "disabled",
}
MINIMAL: dict[str, dict[str, Any]] = {
    "OpenAIBaseModel": {},
    "ChatMessage": {"role": "assistant"},
    "DeltaMessage": {},
    "ResponsesRequest": {"input": "Hi"},
    "ResponsesResponse": RESPONSE,
    "ChatCompletionRequest": {"messages": [{"role": "user", "content": "Hi"}]},
    "CompletionRequest": {"prompt": "Hi"},
    "TokenizeChatRequest": {"messages": [{"role": "user", "content": "Hi"}]},
    "TranscriptionRequest": {"file": io.BytesIO()},
    "TranslationRequest": {"file": io.BytesIO()},
}


@dataclass(frozen=True)
class Case:
    """What is set beside the minimal body; the field it is refused at, or what the request then has."""

    given: dict[str, Any]
    refused: str | None = None
    has: dict[str, Any] = field(default_factory=dict)


SALT = [
    Case({"cache_salt": ""}, "cache_salt"),
    Case({"cache_salt": 5}, "cache_salt"),
    Case({"cache_salt": "s"}, has={"cache_salt": "s"}),
    Case({"cache_salt": None}, has={"cache_salt": None}),
]
STREAM_OPTIONS = [
    Case({"stream_options": {"include_usage": True}}, "stream_options"),
    Case({"stream_options": {"include_usage": True}, "stream": False}, "stream_options"),
    Case({"stream_options": {"include_usage": True}, "stream": True}),
    Case({"stream_options": None}),
]
ONE_CONSTRAINT = [
    Case({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
    Case({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    Case({"structured_outputs": {"regex": "a"}}),
    Case({"structured_outputs": None}),
]
PROMPT_LOGPROBS = [
    Case({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    Case({"prompt_logprobs": -1, "stream": True}, "prompt_logprobs"),
    Case({"prompt_logprobs": -2}, "prompt_logprobs"),
    Case({"prompt_logprobs": 0, "stream": True}),
    Case({"prompt_logprobs": -1}),
    Case({"prompt_logprobs": 3}),
]
GENERATION_PROMPT = [
    Case({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    Case({"continue_final_message": True, "add_generation_prompt": False}),
    Case({"add_generation_prompt": True}),
]
STREAMED_SPEECH = [
    Case({"stream_include_usage": True}, "stream_include_usage"),
    Case({"stream_continuous_usage_stats": True, "stream": False}, "stream_continuous_usage_stats"),
    Case({"stream_include_usage": True, "stream": True}),
    Case({"stream_include_usage": False}),
]
REASONING = [
    Case({"reasoning": "hm"}, has={"reasoning": "hm", "reasoning_content": "hm"}),
    Case({}, has={"reasoning": None, "reasoning_content": None}),
]
CASES: dict[tuple[str, str], list[Case]] = {
    ("OpenAIBaseModel", "__log_extra_fields__"): [Case({"shoe_size": 42}, has={"shoe_size": 42})],
    ("ResponsesRequest", "validate_background"): [
        Case({"background": True, "store": False}, "store"),
        Case({"background": True, "store": None}, "store"),
        Case({"background": True}),
        Case({"background": False, "store": False}),
    ],
    ("ResponsesRequest", "validate_prompt"): [Case({"prompt": {"id": "p"}}, "prompt"), Case({"prompt": None})],
    ("ResponsesRequest", "check_cache_salt_support"): SALT,
    ("ResponsesRequest", "function_call_parsing"): [
        Case({"input": [CALL]}, has={"input": [ResponseFunctionToolCall(**CALL)]}),
        Case({"input": [{**CALL, "name": None}]}, "input.0.name"),
        Case({"input": (CALL,)}, has={"input": [ResponseFunctionToolCall(**CALL)]}),
        Case({"input": None}, "input"),
        Case({"input": 3}, "input"),
    ],
    ("ChatCompletionRequest", "validate_stream_options"): STREAM_OPTIONS,
    ("ChatCompletionRequest", "check_logprobs"): [
        *PROMPT_LOGPROBS,
        Case({"top_logprobs": 1}, "top_logprobs"),
        Case({"top_logprobs": -1}, "top_logprobs"),
        Case({"top_logprobs": -2, "logprobs": True}, "top_logprobs"),
        Case({"top_logprobs": 1, "logprobs": True}),
        Case({"top_logprobs": -1, "logprobs": True}),
        Case({"top_logprobs": 0}),
    ],
    ("ChatCompletionRequest", "check_structured_outputs_count"): ONE_CONSTRAINT,
    ("ChatCompletionRequest", "check_tool_usage"): [
        Case({"tools": [TOOL]}, has={"tool_choice": "auto"}),
        Case({"tools": [TOOL], "tool_choice": "none"}, has={"tool_choice": "none"}),
        Case({"tool_choice": "none"}, has={"tool_choice": "none"}),
        Case({"tool_choice": "auto"}, "tool_choice"),
        Case({"tool_choice": "required"}, "tool_choice"),
        Case({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        Case({"tools": [], "tool_choice": "required"}, has={"tools": None, "tool_choice": "none"}),
        Case({"tools": [TOOL], "tool_choice": "required"}, has={"tool_choice": "required"}),
        Case({"tools": [TOOL], "tool_choice": {}}, "tool_choice.function"),
        Case({"tools": [TOOL], "tool_choice": {"function": {}}}, "tool_choice.function.name"),
        Case({"tools": [TOOL], "tool_choice": {"function": {"name": ""}}}, "tool_choice"),
        Case({"tools": [TOOL], "tool_choice": {"function": {"name": 5}}}, "tool_choice.function.name"),
        Case({"tools": [TOOL], "tool_choice": {"function": {"name": "jump"}}}, "tool_choice"),
        Case({"tools": [TOOL], "tool_choice": LOOK}),
    ],
    ("ChatCompletionRequest", "check_generation_prompt"): GENERATION_PROMPT,
    ("ChatCompletionRequest", "check_cache_salt_support"): SALT,
    ("CompletionRequest", "check_structured_outputs_count"): ONE_CONSTRAINT,
    ("CompletionRequest", "check_logprobs"): [
        *PROMPT_LOGPROBS,
        Case({"logprobs": -2}, "logprobs"),
        Case({"logprobs": 0}),
    ],
    ("CompletionRequest", "validate_stream_options"): STREAM_OPTIONS,
    ("CompletionRequest", "validate_prompt_and_prompt_embeds"): [
        Case({"prompt": None}, "prompt"),
        Case({"prompt": ""}, "prompt"),
        Case({"prompt": None, "prompt_embeds": []}, "prompt"),
        Case({"prompt": None, "prompt_embeds": b"AAAA"}),
        Case({"prompt": [1, 2]}, has={"prompt": [1, 2]}),
    ],
    ("CompletionRequest", "check_cache_salt_support"): SALT,
    ("ChatMessage", "handle_deprecated_reasoning_content"): REASONING,
    ("DeltaMessage", "handle_deprecated_reasoning_content"): REASONING,
    ("ResponsesResponse", "serialize_input_messages"): [Case({"input_messages": [{"role": "user", "content": "Hi"}]})],
    ("ResponsesResponse", "serialize_output_messages"): [Case({"output_messages": [{"message": "Hi", "tokens": [1]}]})],
    ("TokenizeChatRequest", "check_generation_prompt"): GENERATION_PROMPT,
    ("TranscriptionRequest", "validate_transcription_request"): [
        Case({"file": "speech.wav"}, "file"),
        *STREAMED_SPEECH,
    ],
    ("TranslationRequest", "validate_stream_options"): STREAMED_SPEECH,
}
"""What each validator of the seed lets pass and what it refuses."""


@pytest.mark.parametrize(
    ("model", "case"),
    [
        pytest.param(model, case, id=f"{model}.{validator}-{number}")
        for model, validator in VALIDATORS
        for number, case in enumerate(CASES[model, validator])
    ],
)
def test_a_validator_does_what_the_seed_s_does(model: str, case: Case) -> None:
    body = {**MINIMAL[model], **case.given}
    before = repr(body)
    if case.refused is None:
        request = named(model)(**body)
        assert {name: getattr(request, name) for name in case.has} == case.has
    else:
        with pytest.raises(ValidationError) as refusal:
            named(model)(**body)
        (error, *_) = refusal.value.errors()
        assert ".".join(map(str, error["loc"])).startswith(case.refused)
        assert error["msg"].endswith(".")
    assert repr(body) == before, "the caller's data is the caller's"


def test_every_validator_of_the_seed_has_cases() -> None:
    assert {*CASES} == {*VALIDATORS}


def test_fields_that_the_seed_logs_as_ignored_are_reported_to_the_caller() -> None:
    request = quire_protocol.DetokenizeRequest(tokens=[], shoe_size=42)
    assert unknown_fields(request) == {"shoe_size": None}


@pytest.mark.parametrize("model", [model for model in MINIMAL if model.endswith("Request")])
@pytest.mark.parametrize("body", [[], [1], "text", 7, None, True])
def test_a_body_that_is_no_object_is_refused_and_not_a_crash(model: str, body: object) -> None:
    with pytest.raises(ValidationError):
        named(model).model_validate(body)
