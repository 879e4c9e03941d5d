"""The forms that a request may ask of an answer, as grammars. It knows the request's words, and no model's format."""

from __future__ import annotations

import re

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.json_schema import COMPACT, JsonStyle, loaded
from quire_engine.text.grammar.notation import GrammarText
from quire_engine.text.grammar.patterns import as_lark
from quire_engine.text.grammar.structural_tags import structural_tag
from quire_protocol import StructuredOutputsParams

_CLASSES = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")


def style_of(params: StructuredOutputsParams) -> JsonStyle:
    """How JSON is to be written. GrammarError for whitespace without bounds."""
    pattern = params.whitespace_pattern
    if pattern is not None and _UNBOUNDED.search(_CLASSES.sub("", pattern)):
        raise GrammarError(
            f"whitespace_pattern {pattern!r} matches whitespace of any length, which an answer may never leave again: "
            "give it bounds, as in [ \\n]{0,8}.",
            param="structured_outputs.whitespace_pattern",
        )
    if pattern is not None and not params.disable_any_whitespace:
        return JsonStyle(whitespace=pattern, closed=params.disable_additional_properties)
    if params.disable_any_whitespace:
        return JsonStyle(",", ":", closed=params.disable_additional_properties)
    return JsonStyle(COMPACT.item_separator, COMPACT.key_separator, closed=params.disable_additional_properties)


def form(params: StructuredOutputsParams, notation: GrammarText) -> str:
    """The expression of answers in the form that is asked for. GrammarError for what cannot be enforced."""
    if params.json is not None:
        return notation.json(loaded(params.json) if isinstance(params.json, str) else params.json)
    if params.regex is not None:
        return notation.regex(params.regex)
    if params.choice is not None:
        return notation.one_of(params.choice)
    if params.grammar is not None:
        return notation.grammar(as_lark(params.grammar))
    if params.structural_tag is not None:
        return structural_tag(params.structural_tag, notation)
    return notation.json({"type": "object"})
