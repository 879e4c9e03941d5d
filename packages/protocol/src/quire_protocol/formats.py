"""`response_format`: the form that an answer must have, and what it means for sampling."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, Tag, model_validator

from quire_protocol.base import Many, OpenAIBaseModel
from quire_protocol.problems import ToldBy, field_error
from quire_protocol.sampling import StructuredOutputsParams


class JsonSchemaResponseFormat(OpenAIBaseModel):
    """A JSON Schema with a name."""

    name: str
    """What the schema describes; told to no model, there for the reader."""
    description: str | None = None
    """What the answer is for."""
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """The schema. Called `schema` on the wire, which pydantic keeps for itself."""
    strict: bool | None = None
    """OpenAI's switch; schemas are always followed here."""


class LegacyStructuralTag(OpenAIBaseModel):
    """One kind of marked part: between `begin` and `end` the text follows a schema."""

    begin: str
    """Text that opens the part."""
    structural_tag_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """The JSON Schema between them. Called `schema` on the wire, which pydantic keeps for itself."""
    end: str
    """Text that closes the part."""


class LegacyStructuralTagResponseFormat(OpenAIBaseModel):
    """Free text with marked parts, in the older spelling."""

    type: Literal["structural_tag"]
    """The form's name."""
    structures: Many[LegacyStructuralTag]
    """The kinds of marked parts."""
    triggers: Many[str]
    """Texts after which a marked part must follow; each is how the `begin` of some structure starts."""


class StructuralTagResponseFormat(OpenAIBaseModel):
    """Free text with marked parts."""

    type: Literal["structural_tag"]
    """The form's name."""
    format: Any
    """The structural tag, as xgrammar defines it."""


AnyStructuralTagResponseFormat: TypeAlias = LegacyStructuralTagResponseFormat | StructuralTagResponseFormat


class ResponseFormat(OpenAIBaseModel):
    """Plain text, any JSON, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    """The form's name."""
    json_schema: JsonSchemaResponseFormat | None = None
    """The schema, for the form of that name."""

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema":
            if self.json_schema is None:
                problem = "is required when the type is json_schema: give a name and a schema."
                raise field_error("json_schema", problem, None)
            if self.json_schema.json_schema is None:
                problem = "is required: without one, use the type json_object."
                raise field_error("json_schema.schema", problem, None)
        return self


def _form(value: Any) -> str | None:
    """Which model reads a response format: there are two spellings of a structural tag."""
    if not isinstance(value, Mapping):
        return type(value).__name__ if isinstance(value, OpenAIBaseModel) else "ResponseFormat"
    match value.get("type"):
        case "text" | "json_object" | "json_schema":
            return "ResponseFormat"
        case "structural_tag" if "structures" in value:
            return "LegacyStructuralTagResponseFormat"
        case "structural_tag":
            return "StructuralTagResponseFormat"
    return None


AnyResponseFormat: TypeAlias = Annotated[
    Annotated[ResponseFormat, Tag("ResponseFormat")]
    | Annotated[StructuralTagResponseFormat, Tag("StructuralTagResponseFormat")]
    | Annotated[LegacyStructuralTagResponseFormat, Tag("LegacyStructuralTagResponseFormat")],
    ToldBy(_form, "'text', 'json_object', 'json_schema' or 'structural_tag'", key="type"),
]


def constrain(
    structured_outputs: StructuredOutputsParams | None,
    response_format: ResponseFormat | AnyStructuralTagResponseFormat | None,
) -> StructuredOutputsParams | None:
    """The one constraint that two fields of a request ask for; None when they leave the answer free."""
    match response_format:
        case None | ResponseFormat(type="text"):
            return structured_outputs
        case ResponseFormat(type="json_object"):
            asked: dict[str, Any] = {"json_object": True}
        case ResponseFormat(json_schema=JsonSchemaResponseFormat(json_schema=schema)):
            asked = {"json": schema}
        case _:
            asked = {"structural_tag": json.dumps(response_format.model_dump(by_alias=True))}
    return replace(structured_outputs or StructuredOutputsParams(), **asked)
