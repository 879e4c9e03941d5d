"""Whatever a format's grammar leads to is read back as reasoning and an answer that satisfies its schema."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from tests.engine.text.formats.chunking import read, text_of
from tests.engine.text.formats.constrained import NESTED, random_answer
from tests.support.grammars import vocabulary

from quire_engine.text.formats.events import Reasoning
from quire_engine.text.formats.reasoning import REASONING_FORMATS
from quire_engine.text.grammar.notation import GrammarText


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("form", REASONING_FORMATS, ids=lambda form: form.name)
def test_an_answer_behind_any_reasoning_satisfies_its_schema(form, is_open):
    notation = GrammarText(vocabulary().tokenizer)
    answer = f"{notation.text(form.heading)} {notation.json(NESTED)}"
    grammar = notation.whole(f"{form.span(notation, is_open=is_open)} {answer}")
    reasons = 0
    for seed in range(25):
        text = random_answer(grammar, random.Random(seed), [form.begin, form.end])
        events = read(form.parser(is_open=is_open), [text])
        reasons += any(isinstance(event, Reasoning) for event in events)
        jsonschema.validate(json.loads(text_of(events)), NESTED)
    assert reasons
