from __future__ import annotations

from pathlib import Path

import llguidance
import numpy as np
import pytest
from tests.support.letters import letters
from tests.support.tokenizer_kinds import tokenizer_of, write_checkpoint

from quire_engine.errors import RequestError
from quire_engine.guidance.vocabulary import Vocabulary
from quire_engine.text.tokenizer import Tokenizer

TEXTS = ('{"name": "the quick fox", "x": [1, 2]}', "x", " x", '",', "Größe")


def matcher(tokenizer: llguidance.LLTokenizer, grammar: str) -> llguidance.LLMatcher:
    return llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0)


def allowed(state: llguidance.LLMatcher) -> list[int]:
    bits = np.unpackbits(np.frombuffer(state.compute_bitmask(), dtype=np.uint8), bitorder="little")
    return bits.nonzero()[0].tolist()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback", "byte-fallback-unstripped"])
def test_what_is_spelled_out_is_joined_to_the_same_text(kind: str, text: str) -> None:
    vocabulary = Vocabulary(tokenizer_of(kind), 640, [2])
    spelled = vocabulary.letters(text.encode())
    tokens = vocabulary.joined(spelled)
    assert tokens is not None
    assert vocabulary.spelled(tokens) == spelled
    assert len(tokens) <= len(spelled)


def test_marks_are_one_token_in_both() -> None:
    vocabulary = Vocabulary(tokenizer_of("byte-level"), 416, [0])
    spelled = [*vocabulary.letters(b"a"), 400, *vocabulary.letters(b"b")]
    tokens = vocabulary.joined(spelled)
    assert tokens is not None
    assert 400 in tokens
    assert vocabulary.spelled(tokens) == spelled
    for tokenizer in (vocabulary.tokens, vocabulary.spelling):
        state = matcher(tokenizer, 'start: "a" <[400]> "b"')
        assert state.consume_tokens(tokenizer.tokenize_bytes(b"a"))
        assert allowed(state) == [400]


def test_text_that_the_tokens_cannot_write_is_not_joined() -> None:
    vocabulary = Vocabulary(tokenizer_of("unigram"), 200, [1])
    assert vocabulary.joined(vocabulary.letters(b'{"')) is None


def test_a_tokenizer_of_few_characters_cuts_what_it_can_write(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_checkpoint(tmp_path, letters(), eos_token="<|end|>"))
    vocabulary = Vocabulary(tokenizer, tokenizer.vocab_size, [0])
    a, b = tokenizer.encode("ab", False)
    assert vocabulary.tokens.tokenize_bytes(b"ab") == [a, b]
    assert allowed(matcher(vocabulary.tokens, 'start: "ab"')) == [a]


def test_ids_without_a_token_are_never_allowed() -> None:
    vocabulary = Vocabulary(tokenizer_of("byte-level"), 450, [0])
    assert max(allowed(matcher(vocabulary.tokens, r"start: /(?s:.*)/"))) < 400


def test_a_model_without_an_end_is_given_one_that_it_cannot_draw() -> None:
    vocabulary = Vocabulary(tokenizer_of("byte-level"), 416, [])
    assert vocabulary.tokens.eos_tokens == [416]
    state = matcher(vocabulary.tokens, "start: /a*/")
    assert 416 in allowed(state)
    assert state.is_accepting()


def test_a_tokenizer_whose_tokens_depend_on_their_neighbours_is_refused() -> None:
    with pytest.raises(RequestError, match="depends on the tokens beside it"):
        Vocabulary(tokenizer_of("word-piece"), 400, [1])
