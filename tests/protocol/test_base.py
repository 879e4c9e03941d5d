"""What every schema shares."""

from typing import Any

import pytest
from pydantic import ValidationError

import quire_protocol
from quire_protocol import OpenAIBaseModel, RequestModel, random_uuid


class Inner(OpenAIBaseModel):
    depth: int
    """How deep."""


class Asked(RequestModel):
    size: int
    """How large."""
    inner: Inner | None = None
    """What is within."""


class AskedMore(Asked):
    size: int = 3
    colour: str = "red"
    """Which colour."""


def properties(model: type[OpenAIBaseModel]) -> dict[str, Any]:
    shown: dict[str, Any] = model.model_json_schema()["properties"]
    return shown


def test_unknown_fields_are_kept() -> None:
    assert Asked.model_validate({"size": 1, "shoe": 42}).model_extra == {"shoe": 42}


def test_the_sentence_under_a_field_is_its_description() -> None:
    assert properties(Asked)["size"]["description"] == "How large."
    assert properties(Asked)["inner"]["description"] == "What is within."


def test_a_field_that_is_stated_again_keeps_its_base_s_description() -> None:
    assert properties(AskedMore)["size"]["description"] == "How large."
    assert properties(AskedMore)["colour"]["description"] == "Which colour."


def test_a_class_without_source_has_a_schema_all_the_same() -> None:
    scope: dict[str, Any] = {"OpenAIBaseModel": OpenAIBaseModel, "__name__": "nowhere"}
    exec("class Typed(OpenAIBaseModel):\n    size: int\n", scope)
    assert "size" in properties(scope["Typed"])


@pytest.mark.parametrize(
    ("model", "alias"),
    [("JsonSchemaResponseFormat", "schema"), ("LegacyStructuralTag", "schema")],
)
def test_a_field_with_an_alias_is_described_under_it(model: str, alias: str) -> None:
    assert properties(getattr(quire_protocol, model))[alias]["description"]


@pytest.mark.parametrize(
    "model",
    [
        "ChatCompletionRequest",
        "ChatCompletionResponse",
        "ChatCompletionStreamResponse",
        "CompletionRequest",
        "CompletionResponse",
        "CompletionStreamResponse",
        "DetokenizeRequest",
        "ErrorResponse",
        "GenerateRequest",
        "GenerateResponse",
        "ModelList",
        "TokenizeChatRequest",
        "TokenizeCompletionRequest",
        "TokenizeResponse",
        "TokenizerInfoResponse",
    ],
)
def test_every_field_of_a_schema_is_described(model: str) -> None:
    schema = getattr(quire_protocol, model).model_json_schema()
    ours = {name: part for name, part in {**schema.get("$defs", {}), model: schema}.items() if is_model(name)}
    silent = [f"{name}.{field}" for name, part in ours.items() for field in undescribed(part)]
    assert silent == []


def is_model(name: str) -> bool:
    cls = getattr(quire_protocol, name, None)
    return isinstance(cls, type) and issubclass(cls, OpenAIBaseModel)


def undescribed(schema: dict[str, Any]) -> list[str]:
    return [field for field, shown in schema.get("properties", {}).items() if "description" not in shown]


def test_an_error_is_a_sentence_at_the_place_of_the_value() -> None:
    with pytest.raises(ValidationError) as refusal:
        Asked.model_validate({"size": 1, "inner": {"depth": "far"}})
    (error,) = refusal.value.errors()
    assert error["loc"] == ("inner", "depth")
    assert error["msg"] == 'inner.depth must be an integer, got "far".'


def test_json_text_is_read_like_the_value_it_stands_for() -> None:
    assert Asked.model_validate_json('{"size": 1, "inner": {"depth": 2}}') == Asked(size=1, inner=Inner(depth=2))


def test_ids_do_not_repeat() -> None:
    assert len({random_uuid() for _ in range(100)}) == 100
