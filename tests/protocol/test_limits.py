"""Limits: no number, list or short string of a request is without a bound, and each bound says what it refused."""

import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

import quire_protocol
from quire_protocol import (
    DEFAULT_LIMITS,
    Bound,
    ChatCompletionRequest,
    CompletionRequest,
    GenerateRequest,
    LimitError,
    LoadLoRAAdapterRequest,
    ResponsesRequest,
    SamplingParams,
    check_limits,
)

REQUESTS = [
    value
    for name in quire_protocol.__all__
    if name.endswith("Request") and inspect.isclass(value := getattr(quire_protocol, name))
]


def schema_fields(kind: Any) -> dict[str, Any]:
    """The fields of a class of ours and their annotations; none for openai's and for what has no fields."""
    if getattr(kind, "__module__", "").startswith("openai."):
        return {}
    if is_typeddict(kind):
        return get_type_hints(kind)
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in fields(kind)}
    return {}


def parts(annotation: Any) -> Iterator[Any]:
    """Every class that an annotation is made of, keys of objects, words and functions left out."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Literal, Callable):
        return
    if not arguments:
        yield annotation
    elif origin in (list, tuple, dict):
        yield origin
    for argument in arguments[1:] if origin is dict else arguments[:1] if origin is Annotated else arguments:
        yield from parts(argument)


def every_field() -> dict[str, tuple[str, set[Any]]]:
    """Each field that a request can have, at any depth: an example of where it is, and what it is made of."""
    found: dict[str, tuple[str, set[Any]]] = {}
    seen, waiting = set(), list(REQUESTS)
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for name, annotation in schema_fields(kind).items():
            made_of = [*parts(annotation)]
            found[f"{kind.__name__}.{name}"] = (name, set(made_of))
            waiting += [part for part in made_of if schema_fields(part)]  # in one order, whoever collects the tests
    return found


FIELDS = every_field()


def test_the_walk_reaches_what_is_nested() -> None:
    assert {"ChatCompletionRequest.n", "FunctionDefinition.name", "InputAudio.data", "SamplingParams.stop"} <= {*FIELDS}


@pytest.mark.parametrize("place", FIELDS)
def test_a_field_is_bounded_or_exempt_by_name(place: str) -> None:
    name, made_of = FIELDS[place]
    kinds = made_of & {int, float, str, bytes, list, tuple, dict, Any} | {
        kind for kind in made_of if is_typeddict(kind)
    }
    if not kinds:
        return
    assert name in DEFAULT_LIMITS.bounds, f"{place} is neither bounded nor exempt: give it a line in limits.py"
    bound = DEFAULT_LIMITS.bounds[name]
    if kinds & {int, float}:
        assert bound.low < bound.high
    if str in kinds:
        assert bound.text > 0
    if kinds & {list, tuple, dict} or any(is_typeddict(kind) for kind in kinds):
        assert bound.items > 0
    if Any in kinds:
        assert bound.free


def test_no_bound_is_left_over() -> None:
    names = {name for name, _ in FIELDS.values()}
    assert {*DEFAULT_LIMITS.bounds} <= names


def refusal(request: BaseModel, **bounds: Bound) -> LimitError:
    with pytest.raises(LimitError) as error:
        check_limits(request, DEFAULT_LIMITS.but(**bounds))
    return error.value


@pytest.mark.parametrize("place", FIELDS)
def test_values_beyond_a_bound_are_refused_at_their_field(place: str) -> None:
    model, name = place.split(".")
    kind = getattr(quire_protocol, model, None)
    if not (inspect.isclass(kind) and issubclass(kind, BaseModel)) or name not in DEFAULT_LIMITS.bounds:
        return
    bound, wire_name = DEFAULT_LIMITS.bounds[name], kind.model_fields[name].alias or name
    beyond: list[object] = [math.nan, math.inf, -math.inf, 2**5000]
    beyond += ["x" * (int(bound.text) + 1)] if bound.text < math.inf else []
    beyond += [["x"] * (bound.items + 1), {str(n): "x" for n in range(bound.items + 1)}] if bound.items < 10**5 else []
    for value in beyond:
        error = refusal(kind.model_construct(**{name: value}))
        assert error.param == wire_name
        assert str(error).startswith(f"{wire_name} must be ") or str(error).startswith(f"{wire_name} must have ")


def chat(**given: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(**{"messages": [{"role": "user", "content": "Hi"}], **given})


def test_an_ordinary_request_passes() -> None:
    check_limits(
        chat(
            model="m",
            temperature=0.7,
            stop=["\n"],
            logit_bias={"5": -100},
            tools=[
                {"function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"minimum": 1e300}}}}}
            ],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            chat_template_kwargs={"deep": [[{"er": 1}]]},
        )
    )


def test_free_text_and_data_uris_have_no_bound() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    check_limits(chat(messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 10**6}, image]}]))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (chat(n=16_385), "n must be a number between 0 and 16384, got 16385."),
        (
            chat(max_tokens=2**70000),
            "max_tokens must be a number between -1 and 2147483647, got an integer of 70001 bits.",
        ),
        (chat(temperature=math.nan), "temperature must be a finite number, got nan."),
        (chat(model="m" * 1025), "model must be at most 1024 characters long, got 1025."),
        (chat(stop=["."] * 257), "stop must have at most 256 entries, got 257."),
        (chat(stop=["ok", "." * 4097]), "stop.1 must be at most 4096 characters long, got 4097."),
        (chat(allowed_token_ids=[1, -2]), "allowed_token_ids.1 must be a number between 0 and 2147483647, got -2."),
        (chat(logit_bias={"7": math.inf}), "logit_bias.7 must be a finite number, got inf."),
        (
            chat(messages=[{"role": "user", "content": "Hi", "name": "n" * 1025}]),
            "messages.0.name must be at most 1024 characters long, got 1025.",
        ),
        (
            chat(messages=[{"role": "user", "content": "Hi", "own": {"key": math.nan}}]),
            "messages.0.own.key must be a finite number, got nan.",
        ),
        (
            chat(tools=[{"function": {"name": "f", "parameters": {"minimum": math.nan}}}]),
            "tools.0.function.parameters.minimum must be a finite number, got nan.",
        ),
        (
            CompletionRequest(prompt=[[1], [2, 2**31]]),
            "prompt.1.1 must be a number between 0 and 2147483647, got 2147483648.",
        ),
        (
            GenerateRequest(token_ids=[1], sampling_params=SamplingParams(stop_token_ids=(-1,))),
            "sampling_params.stop_token_ids.0 must be a number between 0 and 2147483647, got -1.",
        ),
        (
            LoadLoRAAdapterRequest(lora_name="n" * 1025, lora_path="p"),
            "lora_name must be at most 1024 characters long, got 1025.",
        ),
    ],
    ids=lambda value: value.split(" ")[0] if isinstance(value, str) else "",
)
def test_a_refusal_names_the_place_the_bound_and_the_value(request_: BaseModel, message: str) -> None:
    assert str(refusal(request_)) == message


def test_json_that_is_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = {"a": [deep]}
    error = refusal(chat(chat_template_kwargs=deep))
    assert (error.param, error.limit) == ("chat_template_kwargs", 64)


def test_a_server_narrows_and_widens_bounds() -> None:
    assert refusal(chat(n=17), n=Bound(low=1, high=16)).limit == 16
    check_limits(chat(n=10**6), DEFAULT_LIMITS.but(n=Bound(low=1, high=10**9)))


def test_defaults_are_not_looked_at() -> None:
    check_limits(chat(), DEFAULT_LIMITS.but(n=Bound(low=100, high=100)))


def test_openai_s_own_types_are_exempt() -> None:
    tool = {"type": "function", "name": "f" * 10**5, "parameters": {}, "strict": True}
    check_limits(ResponsesRequest(input=[{"role": "user", "content": "x" * 10**6}], tools=[tool]))


def test_a_million_token_ids_are_checked_in_a_moment() -> None:
    request = CompletionRequest(prompt=[7] * 10**6)
    start = time.perf_counter()
    check_limits(request)
    assert time.perf_counter() - start < 1
