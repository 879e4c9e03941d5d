"""Grammars are tried out, once each, in any thread; what is too large or leads nowhere is refused."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.grammars import vocabulary

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.compile import MOST_AT_ONCE, Grammars
from quire_engine.text.grammar.json_schema import COMPACT, Document

LARGE = {f"property_{place}": {"type": "string", "enum": [f"{place}", "another value"]} for place in range(600)}


@pytest.fixture
def grammars() -> Grammars:
    return Grammars(vocabulary().tokenizer)


def test_a_grammar_that_can_be_used_is_given_back(grammars):
    assert grammars.check('start: "a"', "json") == 'start: "a"'


@pytest.mark.parametrize("grammar", ["start: other", 'start: "a', "start: <[99999]>", "start: <|nobody|>", ""])
def test_one_that_cannot_is_refused_with_its_field(grammars, grammar):
    with pytest.raises(GrammarError, match="cannot be used") as refused:
        grammars.check(grammar, "structured_outputs")
    assert refused.value.param == "structured_outputs"
    assert "\n" not in str(refused.value)


def test_marks_are_known_by_their_names_and_their_ids(grammars):
    (mark,) = vocabulary().tokens("<think>")
    assert grammars.check(f"start: <[{mark}]> <think>", "json")


def test_a_grammar_may_not_be_too_large():
    grammars = Grammars(vocabulary().tokenizer, max_size=100)
    with pytest.raises(GrammarError, match="101 characters; 100 is the most"):
        grammars.check('start: "' + "a" * 92 + '"', "json")


def test_what_takes_too_long_is_refused_and_is_not_tried_again():
    impatient = Grammars(vocabulary().tokenizer, seconds=1e-6)
    grammar = f"start: %json {json.dumps({'type': 'object', 'properties': LARGE, 'required': [*LARGE]})}"
    for _ in range(3):
        with pytest.raises(GrammarError, match="longer than 1e-06 s to make ready") as refused:
            impatient.check(grammar, "response_format")
        assert refused.value.param == "response_format"


def test_those_that_never_come_back_leave_no_more_threads_than_there_may_be():
    never, tried = threading.Event(), []

    class Stuck(Grammars):
        def _try(self, grammar):
            tried.append(grammar)
            never.wait(60)

    stuck = Stuck(vocabulary().tokenizer, seconds=0.01)
    try:
        for place in range(MOST_AT_ONCE + 3):
            with pytest.raises(GrammarError, match="Make it simpler" if place < MOST_AT_ONCE else "Ask again later"):
                stuck.check(f'start: "{place}"', "json")
        assert len(tried) == MOST_AT_ONCE
    finally:
        never.set()


def test_a_large_grammar_is_tried_out_once(grammars):
    grammar = f"start: %json {json.dumps({'type': 'object', 'properties': LARGE, 'required': [*LARGE]})}"
    grammars.check('start: "what is made at the first use"', "json")
    began = time.perf_counter()
    grammars.check(grammar, "json")
    first = time.perf_counter() - began
    began = time.perf_counter()
    grammars.check(grammar, "json")
    assert time.perf_counter() - began < first / 2


def test_a_schema_that_cannot_be_used_is_looked_through_once(grammars):
    broken = {"oneOf": [{"type": "string", "minLength": 2}, {"type": "string", "maxLength": 5}]}
    document = Document({"type": "object", "properties": LARGE | {"z": broken}}, COMPACT, "/here")
    told, seconds = [], []
    for _ in range(2):
        began = time.perf_counter()
        with pytest.raises(GrammarError) as refused:
            grammars.check_schema(document, "tools.0")
        seconds.append(time.perf_counter() - began)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert "/here/properties/z" in told[0]
    assert seconds[1] < seconds[0] / 2


def test_one_that_was_forgotten_is_tried_out_again():
    grammars = Grammars(vocabulary().tokenizer, kept=1)
    for letter in "aba":
        assert grammars.check(f'start: "{letter}"', "json")


def test_a_schema_that_failed_fails_again(grammars):
    document = Document({"type": "nope"}, COMPACT, "")
    for _ in range(2):
        with pytest.raises(GrammarError, match="Invalid type: nope"):
            grammars.check_schema(document, "json")


def test_the_bytes_that_an_answer_may_begin_with(grammars):
    assert grammars.first_bytes('start: "ab" | /[x-z]+/') == b"axyz"
    assert grammars.first_bytes("start: <think>") == b""


def test_many_threads_may_ask(grammars):
    with ThreadPoolExecutor(8) as pool:
        checked = list(pool.map(lambda place: grammars.check(f'start: "{place % 5}"', "json"), range(100)))
    assert len(set(checked)) == 5
