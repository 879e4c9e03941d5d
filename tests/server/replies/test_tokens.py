"""Tokens and their log-probabilities in the dialects of the two APIs."""

from math import inf

import pytest
from tests.support.outputs import scored
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.checkpoint import DEFAULT_MODEL
from quire_engine.sequence import TokenLogprobs
from quire_engine.text.tokenizer import Tokenizer
from quire_server.replies.tokens import LOWEST, CompletionTokens, TokenNames, chat_logprobs, prompt_logprobs

DUCK = "a🦆b"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def names(tokenizer: Tokenizer) -> TokenNames:
    return TokenNames(tokenizer)


def test_chat_lists_the_likeliest_best_first_with_true_bytes(tokenizer: Tokenizer, names: TokenNames) -> None:
    duck = tokenizer.encode(DUCK)[1]
    (entry,) = chat_logprobs([scored(duck, 5, 6)], names).content or []
    assert (entry.token, entry.logprob, entry.bytes) == ("\ufffd", -1.0, list(tokenizer.token_bytes(duck)))
    assert [(each.token, each.logprob) for each in entry.top_logprobs] == [
        ("\ufffd", -1.0),
        (tokenizer.token_text(5), -2.0),
        (tokenizer.token_text(6), -3.0),
    ]


def test_the_bytes_of_all_tokens_are_the_text(tokenizer: Tokenizer, names: TokenNames) -> None:
    content = chat_logprobs([scored(token) for token in tokenizer.encode(DUCK)], names).content or []
    assert bytes(byte for entry in content for byte in entry.bytes or ()).decode() == DUCK


def test_a_drawn_token_that_is_not_among_the_likeliest_displaces_none(names: TokenNames) -> None:
    drawn = TokenLogprobs(9, -7.0, 40, (5, 6), (-1.0, -2.0))
    (entry,) = chat_logprobs([drawn], names).content or []
    assert [each.token for each in entry.top_logprobs] == [names.name(5), names.name(6)]
    (candidates,) = CompletionTokens(names, True).add([9], [drawn]).top_logprobs
    assert candidates == {names.name(5): -1.0, names.name(6): -2.0, names.name(9): -7.0}


def test_tokens_may_go_by_their_ids(tokenizer: Tokenizer) -> None:
    names = TokenNames(tokenizer, as_ids=True)
    (entry,) = chat_logprobs([scored(5, 6)], names).content or []
    assert [entry.token, *(each.token for each in entry.top_logprobs)] == ["token_id:5", "token_id:5", "token_id:6"]


def test_without_a_tokenizer_they_do(names: TokenNames) -> None:
    (entry,) = chat_logprobs([scored(5)], TokenNames(None)).content or []
    assert (entry.token, entry.bytes) == ("token_id:5", None)


def test_what_cannot_happen_has_a_number_that_json_can_write(names: TokenNames) -> None:
    never = TokenLogprobs(5, -inf, 640, (6, 7), (0.0, -inf))
    (entry,) = chat_logprobs([never], names).content or []
    assert [entry.logprob, entry.top_logprobs[1].logprob] == [LOWEST, LOWEST]
    assert CompletionTokens(names, True).add([5], [never]).token_logprobs == [LOWEST]
    assert prompt_logprobs([never], names)[0][5].logprob == LOWEST


def test_two_tokens_of_one_text_are_both_reported(tokenizer: Tokenizer, names: TokenNames) -> None:
    parts = [token for token in range(tokenizer.vocab_size) if tokenizer.token_text(token) == "\ufffd"][:2]
    (candidates,) = CompletionTokens(names, True).add(parts[:1], [scored(*parts)]).top_logprobs
    assert candidates == {"\ufffd": -1.0, f"token_id:{parts[1]}": -2.0}


@pytest.mark.parametrize("as_ids", [False, True])
def test_offsets_are_where_tokens_begin_in_the_text(tokenizer: Tokenizer, as_ids: bool) -> None:
    tokens = CompletionTokens(TokenNames(tokenizer, as_ids), skip_special_tokens=True)
    text = f"{DUCK} and more{DUCK}"
    token_ids = tokenizer.encode(text)
    offsets = [offset for token in token_ids for offset in tokens.add([token], [scored(token)]).text_offset]
    for place, offset in enumerate(offsets):
        before = tokenizer.decode(token_ids[:place]).rstrip("\ufffd")
        assert text[:offset] == before


def test_special_tokens_take_no_room_where_they_are_left_out(tokenizer: Tokenizer, names: TokenNames) -> None:
    special = min(tokenizer.special_ids)
    hidden = CompletionTokens(names, skip_special_tokens=True).add([special, 5], [None, None])
    shown = CompletionTokens(names, skip_special_tokens=False).add([special, 5], [None, None])
    assert (hidden.text_offset, shown.text_offset) == ([0, 0], [0, len(tokenizer.token_text(special))])


def test_offsets_in_a_prompt_are_where_its_tokens_stand() -> None:
    sentencepiece = tokenizer_of("byte-fallback")
    token_ids = sentencepiece.encode("The fox</s> jumps over")  # <s> is put before it, and a space before each part
    tokens = CompletionTokens(TokenNames(sentencepiece), skip_special_tokens=True)
    scores = [scored(token) for token in token_ids]
    offsets = tokens.add(token_ids, scores, text="The fox</s> jumps over").text_offset
    written = ["<s>", "Th", "e ", "fox", "</s>", " ", "jum", "ps ", "ov", "er"]
    assert [sentencepiece.token_text(token) for token in token_ids] == written
    assert offsets == [0, 0, 2, 4, 7, 11, 12, 15, 18, 20]


def test_a_prompts_first_token_has_no_logprob(names: TokenNames) -> None:
    lists = CompletionTokens(names, True).add([5, 6], [None, scored(6, 7)])
    assert lists.token_logprobs == [None, -1.0]
    assert lists.top_logprobs[0] is None
    assert prompt_logprobs([None, scored(6, 7)], names)[0] is None


def test_prompt_logprobs_are_by_id_the_actual_token_first(names: TokenNames) -> None:
    (entry,) = prompt_logprobs([TokenLogprobs(9, -7.0, 40, (5, 9), (-1.0, -7.0))], names)
    assert [(token, each.logprob, each.rank, each.decoded_token) for token, each in entry.items()] == [
        (9, -7.0, 40, names.name(9)),
        (5, -1.0, 1, names.name(5)),
    ]
