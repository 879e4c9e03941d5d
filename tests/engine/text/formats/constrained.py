"""Answers that a grammar leads to, whatever the model: each token is drawn from those that are allowed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import jsonschema
from tests.engine.text.formats.chunking import calls_of, check_promises, read, text_of
from tests.support.grammars import END, matcher_of, takes, vocabulary

from quire_engine.text.formats.base import Tool, ToolFormat
from quire_engine.text.formats.events import CallBroken, Event
from quire_engine.text.formats.tools.harmony import HARMONY
from quire_engine.text.grammar.notation import GrammarText

NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b c", "<d>"]},
        "count": {"type": "integer", "minimum": 3, "maximum": 40},
        "flag": {"type": "boolean"},
        "note": {"type": ["string", "null"], "maxLength": 5},
        "places": {"type": "array", "items": {"$ref": "#/$defs/place"}, "maxItems": 2},
    },
    "required": ["kind", "count", "places"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "name": {"type": "string", "maxLength": 8}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}
OFFERED = (
    Tool("look_up", NESTED),
    Tool(
        "say",
        {
            "type": "object",
            "properties": {"text": {"type": "string", "maxLength": 20}},
            "required": ["text"],
            "additionalProperties": False,
        },
    ),
    Tool("now", {"type": "object", "properties": {}, "additionalProperties": False}),
)
"""Tools with schemas that leave little freedom."""


def grammar_of(format: ToolFormat, tools: Sequence[Tool] = OFFERED, *, several: bool = True) -> str:
    """The grammar of answers that are calls of these tools."""
    notation = GrammarText(vocabulary().tokenizer)
    return notation.whole(format.calls(tools, notation, several=several))


def holds(format: ToolFormat, text: str, *, several: bool = True, tools: Sequence[Tool] = OFFERED) -> bool:
    """Whether a format's grammar has this answer."""
    return takes(grammar_of(format, tools, several=several), text)


def random_answer(
    grammar: str, rng: random.Random, marks: Sequence[str] = (), *, ends: float = 0.3, limit: int = 3000
) -> str:
    """An answer that the grammar leads to. Where it may end it does, or goes on, at random; so with these marks."""
    matcher = matcher_of(grammar)
    closing = {*vocabulary().pieces('"}]<')}
    (end,) = vocabulary().tokens(END)
    ids: list[int] = []
    while len(ids) < limit:
        if matcher.is_accepting() and (matcher.is_stopped() or rng.random() < ends):
            return vocabulary().tokenizer.decode(ids, skip_special_tokens=False)
        if marks and rng.random() < 0.1:
            mark = vocabulary().tokens(rng.choice(["", "\n"]) + rng.choice(marks))
            if matcher.validate_tokens(mark) == len(mark):
                assert matcher.consume_tokens(mark), matcher.get_error()
                ids += mark
                continue
        allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
        allowed = [token for token in allowed if token != end]
        closers = [token for token in allowed if token in closing]
        token = rng.choice(closers if closers and rng.random() < 0.3 else allowed)
        assert matcher.consume_token(token), matcher.get_error()
        ids.append(token)
    raise AssertionError(f"no end after {limit} tokens")


def check_random_calls(
    format: ToolFormat, tools: Sequence[Tool] = OFFERED, *, rounds: int = 25, several: bool = True
) -> None:
    """Whatever a format's grammar leads to is calls of the tools that are offered, with what their schemas ask for."""
    grammar = grammar_of(format, tools, several=several)
    schemas = {tool.name: tool.parameters for tool in tools}
    counts = set()
    for seed in range(rounds):
        text = random_answer(grammar, random.Random(seed), format.marks)
        events: Sequence[Event] = read(format.parser(tools), [text])
        check_promises(events)
        assert not any(isinstance(event, CallBroken) for event in events), f"{text!r} gives {events}"
        assert format is HARMONY or not text_of(events), f"{text!r} gives {events}"
        calls = calls_of(events)
        counts.add(len(calls))
        for name, arguments in calls:
            jsonschema.validate(arguments, schemas[name])
    assert max(counts) > 1 if several and format is not HARMONY else counts == {1}  # harmony's answers end with a call
