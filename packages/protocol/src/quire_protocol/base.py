"""What every schema shares: unknown fields kept, descriptions in JSON Schema, errors that name their place."""

import ast
import inspect
import os
import textwrap
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from quire_protocol.problems import in_words

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits the 64 bits a seed has."""
Item = TypeVar("Item")
Many: TypeAlias = Annotated[list[Item], Field(fail_fast=True)]
"""A list in a request. Its first wrong item is the only one told, so that a large wrong body costs little."""

CacheSalt = Annotated[str, Field(min_length=1)]
"""What keeps one tenant's cached prompts from another's: only requests with equal salts share blocks."""


def random_uuid() -> str:
    """32 random hexadecimal digits."""
    return os.urandom(16).hex()  # a fifth of what uuid4 takes, and each request has several


class Described:
    """Puts the sentence under each field into the JSON Schema, as that field's description.

    The sentences are read from the source when a schema is made and not when the class is, because importing the
    classes must stay cheap.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        fields: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
        for name, text in field_docs(cls).items():
            alias = fields[name].alias if name in fields else None
            shown = properties.get(name) or properties.get(alias)
            if shown is not None:
                shown.setdefault("description", text)
        return schema


class OpenAIBaseModel(Described, BaseModel):
    """A schema of the OpenAI API as vLLM extends it. Fields it does not know are kept, in `model_extra`."""

    model_config = ConfigDict(extra="allow", defer_build=True)  # built on first use: importing must stay cheap


class RequestModel(OpenAIBaseModel):
    """What a client sends. Its errors are sentences, and their `loc` is the JSON path of the value to change."""

    @model_validator(mode="wrap")
    @classmethod
    def _state_errors_in_words(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return in_words(data, handler)


def field_docs(cls: type) -> dict[str, str]:
    """The sentence under each field of a class, its bases' included."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if issubclass(owner, Described):
            docs |= _own_field_docs(owner)  # type: ignore[arg-type]  # classes are hashable
    return docs


@cache
def _own_field_docs(owner: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):
        return {}  # the source is not at hand
    docs = {}
    for definition in tree.body:
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text)
    return docs
