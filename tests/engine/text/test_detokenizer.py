"""Whatever the tokenizer, streamed text is what the tokenizer makes of the whole, and no character is ever halved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tokenizer_kinds import KINDS, tokenizer_of

from quire_engine.text.detokenizer import PieceDetokenizer, WindowDetokenizer, detokenizer
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import SamplingParams

kinds = pytest.mark.parametrize("kind", KINDS)
halving_kinds = pytest.mark.parametrize("kind", ["byte-level", "byte-fallback", "byte-fallback-unstripped"])
texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufffd▁"), max_size=30)
BROKEN = "\ufffd"


def stream(tokenizer: Tokenizer, prompt: list[int], output: list[int], **params: object) -> list[str]:
    text = detokenizer(tokenizer, prompt, SamplingParams(**params))
    return [*map(text.push, output), text.finish()]


def continuation(tokenizer: Tokenizer, prompt: list[int], output: list[int], skip: bool) -> str:
    """What the tokenizer itself says that `output` adds to `prompt`."""
    return tokenizer.decode(prompt + output, skip).removeprefix(tokenizer.decode(prompt, skip))


@kinds
@pytest.mark.parametrize("skip", [True, False])
@given(prompt=texts, output=texts)
def test_deltas_together_are_what_the_tokenizer_adds_to_the_prompt(kind, skip, prompt, output):
    tokenizer = tokenizer_of(kind)
    before = tokenizer.encode(prompt + "a")
    after = tokenizer.encode(output, add_special_tokens=False)
    deltas = stream(tokenizer, before, after, skip_special_tokens=skip)
    assert "".join(deltas) == continuation(tokenizer, before, after, skip)


@kinds
@pytest.mark.parametrize("skip", [True, False])
@given(data=st.data())
def test_any_tokens_in_any_order_are_exact(kind, skip, data):
    tokenizer = tokenizer_of(kind)
    # Where byte tokens stand for what the vocabulary lacks, the tokenizer takes a whole run of them back when one
    # is wrong; a stream cannot, so runs are left to a test of their own.
    ids = st.sampled_from(
        [i for i in range(tokenizer.vocab_size) if kind == "byte-level" or tokenizer.token_bytes(i).isascii()]
    )
    output = data.draw(st.lists(ids, max_size=20))
    prompt = tokenizer.encode("Hello a")
    deltas = stream(tokenizer, prompt, output, skip_special_tokens=skip)
    assert "".join(deltas) == continuation(tokenizer, prompt, output, skip)


@halving_kinds
@given(prompt=texts, output=texts)
def test_no_delta_holds_half_a_character(kind, prompt, output):
    tokenizer = tokenizer_of(kind)
    after = tokenizer.encode(output, add_special_tokens=False)
    assert not any(BROKEN in delta for delta in stream(tokenizer, tokenizer.encode(prompt), after))


@halving_kinds
def test_a_character_comes_with_the_token_that_completes_it(kind):
    tokenizer = tokenizer_of(kind)
    prompt = tokenizer.encode("x")
    clef = tokenizer.encode("𝄞", add_special_tokens=False)[-4:]  # in no vocabulary here: four bytes, four tokens
    assert stream(tokenizer, prompt, clef) == ["", "", "", "𝄞", ""]


def test_bytes_at_the_end_that_can_begin_no_character_are_broken_each():
    tokenizer = tokenizer_of("byte-level")
    ids = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    half_of_a_surrogate = [ids[b"\xed"], ids[b"\xa1"]]
    assert "".join(stream(tokenizer, [], half_of_a_surrogate)) == tokenizer.decode(half_of_a_surrogate) == 2 * BROKEN


@halving_kinds
def test_a_character_that_breaks_off_is_flushed_as_broken(kind):
    tokenizer = tokenizer_of(kind)
    prompt = tokenizer.encode("x")
    half = tokenizer.encode("𝄞", add_special_tokens=False)[-4:-1]
    expected = continuation(tokenizer, prompt, half, True)
    assert set(expected) == {BROKEN}
    assert stream(tokenizer, prompt, half) == ["", "", "", expected]
    letter = tokenizer.encode("xa")[-1:]
    assert "".join(stream(tokenizer, prompt, half + letter)) == expected + "a"


@halving_kinds
def test_a_stream_of_broken_bytes_is_delivered_as_it_comes(kind):
    tokenizer = tokenizer_of(kind)
    lead = tokenizer.encode("𝄞", add_special_tokens=False)[-4]
    deltas = stream(tokenizer, tokenizer.encode("x"), [lead] * 50)
    assert deltas == ["", *[BROKEN] * 50]


@halving_kinds
def test_the_mark_of_a_character_broken_in_the_prompt_is_not_the_outputs(kind):
    tokenizer = tokenizer_of(kind)
    half = tokenizer.encode("x𝄞")[:-1]
    letter = tokenizer.encode("xa")[-1]
    assert stream(tokenizer, half, [letter]) == ["a", ""]
    assert stream(tokenizer, half, []) == [""]


@halving_kinds
def test_a_character_begun_in_the_prompt_belongs_to_the_output_that_completes_it(kind):
    tokenizer = tokenizer_of(kind)
    *half, last = tokenizer.encode("x𝄞")
    assert stream(tokenizer, half, [last]) == ["𝄞", ""]


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback", "unigram"])
def test_special_tokens_are_left_out_unless_asked_for(kind):
    tokenizer = tokenizer_of(kind)
    output = tokenizer.encode("a<|end|>b", add_special_tokens=False)
    prompt = tokenizer.encode("x")
    assert "<|end|>" not in "".join(stream(tokenizer, prompt, output))
    assert "<|end|>" in "".join(stream(tokenizer, prompt, output, skip_special_tokens=False))


@halving_kinds
def test_a_skipped_token_does_not_break_the_character_around_it(kind):
    tokenizer = tokenizer_of(kind)
    end = tokenizer.encode("<|end|>", add_special_tokens=False)[-1]
    first, *rest = tokenizer.encode("x𝄞")[-4:]
    assert "".join(stream(tokenizer, tokenizer.encode("x"), [first, end, *rest])) == "𝄞"


def test_the_first_space_stays_after_a_visible_prompt_and_goes_after_an_invisible_one():
    tokenizer = tokenizer_of("byte-fallback")
    word = tokenizer.encode("the", add_special_tokens=False)
    assert "".join(stream(tokenizer, tokenizer.encode("x"), word)) == " the"
    assert "".join(stream(tokenizer, [1], word)) == "the"  # <s> alone, which is skipped


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback-unstripped", "unigram"])
@given(prompt=texts, output=texts)
def test_the_window_gives_the_same_text_as_the_pieces(kind, prompt, output):
    tokenizer = tokenizer_of(kind)
    before = tokenizer.encode(prompt + "a")
    after = tokenizer.encode(output, add_special_tokens=False)
    window = WindowDetokenizer(tokenizer, before, frozenset(), spaced=True)
    assert tokenizer.pieces is not None
    pieces = PieceDetokenizer(tokenizer.pieces, before, frozenset())
    assert "".join([*map(window.push, after), window.finish()]) == "".join([*map(pieces.push, after), pieces.finish()])


def test_the_window_does_not_wait_for_ever_for_broken_characters():
    tokenizer = tokenizer_of("byte-level")
    lead = tokenizer.encode("𝄞", add_special_tokens=False)[-4]
    window = WindowDetokenizer(tokenizer, tokenizer.encode("x"), frozenset(), spaced=True)
    assert "".join(window.push(lead) for _ in range(40)) == BROKEN * 40
