"""Answers that are calls or of a form: the beginning decides, and marks further on are text."""

from __future__ import annotations

import pytest
from tests.engine.text.formats.chunking import TOOLS, Example, call, check, read

from quire_engine.text.formats.either import FormOrCalls
from quire_engine.text.formats.events import CallBegan, CallBroken, Content
from quire_engine.text.formats.tools.hermes import HERMES

CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call>'
FORM = '{"doc": "write <tool_call> first", "b": 1}'
EXAMPLES = [
    Example("a form", FORM, [Content(FORM)]),
    Example("a form that begins as a mark does", f"<to>{CALL}", [Content(f"<to>{CALL}")]),
    Example("a mark that is not complete", " <tool", [Content(" <tool")]),
    Example("a call", CALL, call(0, "search", {"query": "x"})),
    Example("calls", f"\n{CALL}\n{CALL}", [*call(0, "search", {"query": "x"}), *call(1, "search", {"query": "x"})]),
    Example("a call that breaks", CALL[:40], [CallBegan(0, "search"), CallBroken(0, "")]),
    Example("nothing", "", []),
]


def parser() -> FormOrCalls:
    return FormOrCalls(HERMES.parser(TOOLS), HERMES.opening())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_beginning_says_what_an_answer_is(example):
    check(example, parser)


def test_a_form_is_told_as_it_comes():
    form = parser()
    assert form.push("{") == [Content("{")]
    assert form.push('"a": "<tool_call>') == [Content('"a": "<tool_call>')]
    assert read(form, []) == []
