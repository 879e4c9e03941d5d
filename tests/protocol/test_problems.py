"""Errors are sentences at the JSON path where they are."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, Tag, ValidationError, field_validator, model_validator

from quire_protocol.base import RequestModel
from quire_protocol.problems import MOST_ERRORS, ToldBy, field_error, shown


class Circle(RequestModel):
    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0, le=9.5)]


class Square(RequestModel):
    kind: Literal["square"]
    side: float


class Request(RequestModel):
    count: Annotated[int, Field(ge=1)] = 1
    name: Annotated[str, Field(min_length=1, max_length=5)] = "a"
    flags: list[bool] = Field(default=[], max_length=2)
    colour: Literal["red", "green", "blue"] = "red"
    weights: dict[int, float] = Field(default={})
    either: int | list[int] | None = None
    shape: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    nested: list[str | list[Circle]] = Field(default=[])
    even: int = 0
    word: Annotated[
        Annotated[str, Tag("str")] | Annotated[list[str], Tag("list")],
        ToldBy(lambda value: type(value).__name__, "a word or several"),
    ] = "a"

    @field_validator("even")
    @classmethod
    def _is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError(f"even must be even, got {number}.")
        return number


def errors_of(body: Any, model: type[RequestModel] = Request) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(body)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in refusal.value.errors()]


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ({"count": 0}, "count", "count must be at least 1, got 0."),
        ({"count": "many"}, "count", 'count must be an integer, got "many".'),
        ({"count": 1.5}, "count", "count must be an integer, got 1.5."),
        ({"count": None}, "count", "count must be an integer, got null."),
        ({"name": ""}, "name", 'name must be a non-empty string, got "".'),
        ({"name": "a long one"}, "name", 'name must be at most 5 long, got "a long one".'),
        ({"name": 7}, "name", "name must be a string, got 7."),
        ({"flags": {}}, "flags", "flags must be a list, got an object."),
        ({"flags": [True, 7]}, "flags.1", "flags.1 must be true or false, got 7."),
        ({"flags": [True] * 3}, "flags", "flags must be a list of at most 2, got a list of 3."),
        ({"colour": "pink"}, "colour", "colour must be 'red', 'green' or 'blue', got \"pink\"."),
        ({"weights": {"5": True, "6": "x"}}, "weights.6", 'weights.6 must be a number, got "x".'),
        ({"either": {}}, "either", "either must be an integer or a list, got an object."),
        ({"either": [1, "x"]}, "either.1", 'either.1 must be an integer, got "x".'),
        ({"shape": 3}, "shape", "shape must be an object, got 3."),
        ({"shape": {}}, "shape.kind", "shape.kind is required."),
        ({"shape": {"kind": "cube"}}, "shape.kind", "shape.kind must be one of 'circle', 'square', got \"cube\"."),
        ({"shape": {"kind": "circle"}}, "shape.radius", "shape.radius is required."),
        (
            {"shape": {"kind": "circle", "radius": 0}},
            "shape.radius",
            "shape.radius must be greater than 0, got 0.",
        ),
        (
            {"shape": {"kind": "circle", "radius": 10}},
            "shape.radius",
            "shape.radius must be at most 9.5, got 10.",
        ),
        ({"nested": ["a", 5]}, "nested.1", "nested.1 must be a string or a list, got 5."),
        (
            {"nested": ["a", [{"kind": "circle", "radius": "wide"}]]},
            "nested.1.0.radius",
            'nested.1.0.radius must be a number, got "wide".',
        ),
        ({"even": 3}, "even", "even must be even, got 3."),
        ({"word": 3}, "word", "word must be a word or several, got 3."),
        ([], "", "the body must be an object, got a list of 0."),
        (None, "", "the body must be an object, got null."),
    ],
)
def test_one_mistake_is_one_sentence_at_its_path(body: Any, place: str, message: str) -> None:
    assert errors_of(body) == [(place, message)]


def test_all_mistakes_are_told_at_once() -> None:
    assert [place for place, _ in errors_of({"count": 0, "name": 7, "flags": [7, True, 8]})] == [
        "count",
        "name",
        "flags",
    ]
    assert [place for place, _ in errors_of({"nested": [1, "a", 2]})] == ["nested.0", "nested.2"]


def test_a_hundred_mistakes_are_enough() -> None:
    weights = {str(number): "heavy" for number in range(1000)}
    assert len(errors_of({"weights": weights})) == MOST_ERRORS


class Pair(RequestModel):
    low: int
    high: int

    @model_validator(mode="after")
    def _are_in_order(self) -> "Pair":
        if self.low > self.high:
            raise field_error("low", f"must be at most high, which is {self.high}, got {self.low}.", self.low)
        return self


class Pairs(RequestModel):
    pairs: list[Pair]


def test_an_error_between_fields_is_at_the_one_to_change() -> None:
    assert errors_of({"low": 2, "high": 1}, Pair) == [("low", "low must be at most high, which is 1, got 2.")]


def test_an_error_between_fields_has_its_whole_path_further_out() -> None:
    body = {"pairs": [{"low": 0, "high": 1}, {"low": 2, "high": 1}]}
    assert errors_of(body, Pairs) == [("pairs.1.low", "pairs.1.low must be at most high, which is 1, got 2.")]


def test_an_error_can_be_about_a_key_that_is_not_there() -> None:
    class Box(RequestModel):
        @model_validator(mode="after")
        def _is_full(self) -> "Box":
            raise field_error("lid.handle", "is required.", None)

    class Boxes(RequestModel):
        box: Box

    assert errors_of({"box": {"lid": {}}}, Boxes) == [("box.lid.handle", "box.lid.handle is required.")]


def test_errors_keep_pydantic_s_type_and_context() -> None:
    with pytest.raises(ValidationError) as refusal:
        Request.model_validate({"count": 0})
    (error,) = refusal.value.errors()
    assert error["type"] == "greater_than_equal"
    assert error["ctx"]["ge"] == 1
    assert error["input"] == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (True, "true"),
        (2.0, "2"),
        (2.5, "2.5"),
        ("hot", '"hot"'),
        ("x" * 100, f'"{"x" * 60}…" (100 characters)'),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "an object"),
        (b"", "a bytes"),
    ],
)
def test_a_value_is_shown_shortly(value: object, said: str) -> None:
    assert shown(value) == said
