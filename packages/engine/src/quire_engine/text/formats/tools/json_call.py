"""A call as one JSON object, `{"name": …, "arguments": {…}}`: how it is read and how it is constrained.

Many formats write calls so and differ in what stands around them. It knows no marks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from quire_engine.text.formats.base import Notation, Tool
from quire_engine.text.formats.events import CallArguments, CallBegan
from quire_engine.text.formats.scanner import (
    Malformed,
    Pieces,
    Reading,
    Source,
    collected,
    json_members,
    json_string,
    json_value,
    told,
)

ARGUMENTS = frozenset({"arguments", "parameters"})
"""Both are read, whichever of them a format asks its model for: models mix them up."""

BESIDE = frozenset({"type", "id"})
"""What OpenAI writes before the function of a call."""


class JsonCall:
    """Reads one call. Owns what is known of it."""

    def __init__(
        self, source: Source, index: int, *, known: Collection[str] | None = None, id: str | None = None
    ) -> None:
        """With `known`, an object that names none of these functions is no call: Malformed, with nothing given."""
        self.has_begun = False
        """Whether it is certain that this is a call."""
        self._source = source
        self._index = index
        self._known = known
        self._id = id
        self._is_within = False  # whether the object has been seen that OpenAI writes under "function"
        self._arguments: str | None = None  # what came before the name, or "" for what was given

    def read(self) -> Reading[None]:
        """The call that stands here, from brace to brace. What ends it is for the format to say."""
        yield from json_members(self._source, self._member)
        if not self.has_begun:
            raise Malformed("A call has no name.")
        if self._arguments is None:
            yield CallArguments(self._index, "{}")

    def _member(self, key: str) -> Reading[None]:
        """The value of a key. What is neither the function's name nor its arguments is left out."""
        if key == "name":
            yield from self._name()
        elif key in ARGUMENTS:
            yield from self._given()
        elif key == "function":  # as OpenAI writes it, or in place of "name"
            if (yield from self._source.peek()) == "{":
                if self._is_within:
                    raise Malformed("A call has a function within its function.")
                self._is_within = True
                yield from json_members(self._source, self._member)
            else:
                yield from self._name()
        elif self.has_begun or self._known is None or key in BESIDE:
            yield from collected(json_value(self._source))
        else:  # found out now, and not behind an object that may be all of a long answer
            raise Malformed(f"{key!r} is nothing that a call begins with.")

    def _name(self) -> Reading[None]:
        name = yield from json_string(self._source)
        if self.has_begun:
            raise Malformed("A call has two names.")
        if not name or (self._known is not None and name not in self._known):
            raise Malformed(f"{name!r} is not the name of a function.")
        self.has_begun = True
        yield CallBegan(self._index, name, self._id)
        if self._arguments:
            yield CallArguments(self._index, self._arguments)

    def _given(self) -> Reading[None]:
        if self._arguments is not None:
            raise Malformed("A call has its arguments twice.")
        if self.has_begun:
            self._arguments = ""
            yield from told(arguments(self._source), partial(CallArguments, self._index))
        else:
            self._arguments = yield from collected(arguments(self._source))


def arguments(source: Source) -> Pieces[None]:
    """The JSON object of a call's arguments that stands here.

    Models also write it as JSON in a string, and as null or no text at all where there are none; these are made
    objects.
    """
    match (yield from source.peek()):
        case "{":
            yield from json_value(source)
        case '"':
            yield _object_in((yield from json_string(source)))
        case "n":
            yield from source.expect("null")
            yield "{}"
        case _:
            raise source.malformed("a JSON object of arguments")


def _object_in(text: str) -> str:
    inner = Source()
    inner.add(text.strip() or "{}")
    inner.end()
    if inner.ahead(1) != "{":
        raise Malformed("A call's arguments are text and no JSON object.")
    json_text = "".join(filter(None, json_value(inner)))
    if inner.size:
        raise Malformed("A call's arguments are text that goes on behind a JSON object.")
    return json_text


def object_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object even where it does not say so."""
    return {**tool.parameters, "type": "object"}


def call_grammar(tool: Tool, notation: Notation, *, key: str = "arguments") -> str:
    """One call of this tool, with its arguments under this key."""
    head = notation.text(f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{key}": ')
    return f"({head} {notation.json(object_schema(tool))} {notation.text('}')})"


def choice(expressions: Sequence[str]) -> str:
    """One of these expressions."""
    return f"({' | '.join(expressions)})"


def repeated(expression: str, separator: str, *, several: bool) -> str:
    """The expression once, or with `several` once or more often with the separator, if there is one, between."""
    if not several:
        return expression
    return f"({expression} ({separator} {expression})*)" if separator else f"{expression}+"
