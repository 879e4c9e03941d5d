"""Whatever a model writes under a schema satisfies it: schemas at random, answers at random, and a judge of its own."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from tests.support.grammars import matcher_of, vocabulary
from tests.support.random_schemas import random_schema

from quire_engine.errors import GrammarError
from quire_engine.text.grammar.compile import Grammars
from quire_engine.text.grammar.json_schema import COMPACT, Document
from quire_engine.text.grammar.notation import GrammarText

JUDGE = jsonschema.Draft202012Validator
SCHEMAS = 300
ANSWERS = 3
LENGTH = 300
"""Tokens after which an answer that has not ended is left alone: it need not end."""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(vocabulary().tokenizer)


def answer(grammar: str, rng: random.Random) -> str | None:
    """An answer of tokens drawn from those allowed, with a liking for those that close; None if it has no end yet."""
    matcher = matcher_of(grammar)
    (end,) = vocabulary().tokens("<|end|>")
    closing = {*vocabulary().pieces('"]}')}
    ids: list[int] = []
    while len(ids) < LENGTH:
        if matcher.is_accepting() and (matcher.is_stopped() or rng.random() < 0.3):
            return vocabulary().tokenizer.decode(ids)
        allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias and token != end]
        assert allowed, f"a dead end after {vocabulary().tokenizer.decode(ids)!r}: {matcher.get_error()}"
        closers = [token for token in allowed if token in closing]
        ids.append(rng.choice(closers if closers and rng.random() < 0.4 else allowed))
        assert matcher.consume_token(ids[-1])
    return None


@pytest.mark.parametrize("seed", range(0, SCHEMAS, 20))
def test_every_answer_that_ends_satisfies_its_schema(grammars, seed):
    ended = 0
    for place in range(seed, seed + 20):
        rng = random.Random(place)
        schema = random_schema(rng)
        try:
            grammars.check_schema(Document(schema, COMPACT, ""), "json")
        except GrammarError:
            continue
        notation = GrammarText(vocabulary().tokenizer)
        grammar = notation.whole(notation.json(schema))
        judge = JUDGE(schema, format_checker=JUDGE.FORMAT_CHECKER)
        for _ in range(ANSWERS):
            text = answer(grammar, rng)
            if text is not None:
                ended += 1
                assert judge.is_valid(json.loads(text)), f"{text} does not satisfy {json.dumps(schema)}"
    assert ended > 20
