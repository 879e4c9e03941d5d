"""A suffix stands where each family's models were trained to see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.text.test_template import decisions, refusal
from tests.support.tokenizer_kinds import byte_fallback_bpe, byte_level_bpe, tokenizer_of, write_checkpoint

from quire_engine.text.infill import FAMILIES, Family
from quire_engine.text.template import Renderer
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import CompletionRequest

MARKED = {
    "<|fim_prefix|>": "<|fim_prefix|>a b<|fim_suffix|>c d<|fim_middle|>",
    "<fim_prefix>": "<fim_prefix>a b<fim_suffix>c d<fim_middle>",
    "<fim-prefix>": "<fim-prefix>a b<fim-suffix>c d<fim-middle>",
    "<｜fim▁begin｜>": "<｜fim▁begin｜>a b<｜fim▁hole｜>c d<｜fim▁end｜>",
    "▁<PRE>": "▁<PRE>a b▁<SUF>c d▁<MID>",
    "<[fim-suffix]>": "<[fim-suffix]>c d<[fim-prefix]>a b<[fim-middle]>",
    "[SUFFIX]": "[SUFFIX]c d[PREFIX]a b",
}


def coder(folder: Path, family: Family, *, sentencepiece: bool = False) -> Tokenizer:
    """A tokenizer that has a family's markers."""
    backend = byte_fallback_bpe() if sentencepiece else byte_level_bpe()
    backend.add_special_tokens([*family.markers, *family.ends])
    return Tokenizer.load(write_checkpoint(folder, backend, eos_token="<|end|>"))


def fill(tokenizer: Tokenizer, **fields: object) -> list[list[int]]:
    renderer = Renderer(tokenizer, decisions())
    request = CompletionRequest(**{"prompt": "a b", "suffix": "c d", "max_tokens": 3, **fields})
    return [generate.token_ids for generate in renderer.render_completion(request)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.markers[0])
def test_each_family_sees_prefix_and_suffix_in_its_own_order(tmp_path, family):
    tokenizer = coder(tmp_path, family)
    [ids] = fill(tokenizer)
    assert tokenizer.decode(ids, skip_special_tokens=False) == MARKED[family.markers[0]]
    assert {tokenizer.token_id(marker) for marker in family.markers} <= set(ids)


def test_every_family_has_markers_of_its_own():
    assert len({family.markers for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", [each for each in FAMILIES if each.ends], ids=lambda family: family.markers[0])
def test_the_middle_ends_at_the_familys_own_tokens(tmp_path, family):
    tokenizer = coder(tmp_path, family)
    renderer = Renderer(tokenizer, decisions())
    ends = tuple(tokenizer.token_id(name) for name in family.ends)
    [filled] = renderer.render_completion(CompletionRequest(prompt="a", suffix="b", stop_token_ids=[5]))
    assert filled.sampling_params.stop_token_ids == (5, *ends)
    [endless] = renderer.render_completion(CompletionRequest(prompt="a", suffix="b", ignore_eos=True))
    [plain] = renderer.render_completion(CompletionRequest(prompt="a"))
    assert endless.sampling_params.stop_token_ids == plain.sampling_params.stop_token_ids == ()


def test_each_of_several_prompts_gets_the_suffix(tmp_path):
    tokenizer = coder(tmp_path, FAMILIES[0])
    first, second = fill(tokenizer, prompt=["a", "b"])
    assert [tokenizer.decode(ids) for ids in (first, second)] == ["ac d", "bc d"]
    assert fill(tokenizer, prompt=tokenizer.encode("a b")) == fill(tokenizer)


def test_only_the_prefix_begins_with_the_space_that_sentencepiece_adds(tmp_path):
    tokenizer = coder(tmp_path, FAMILIES[4], sentencepiece=True)
    [ids] = fill(tokenizer, prompt="the", suffix="dog")
    pieces = [tokenizer.pieces[token] for token in ids]
    assert "".join(pieces[:1]) == "<s>"
    assert "".join(pieces[1:]) == "▁<PRE> the▁<SUF>dog▁<MID>".replace("▁", " ")
    [bare] = fill(tokenizer, prompt="the", suffix="dog", add_special_tokens=False)
    assert bare == ids[1:]


def test_an_empty_suffix_is_none(tmp_path):
    tokenizer = coder(tmp_path, FAMILIES[0])
    assert fill(tokenizer, suffix="") == fill(tokenizer, suffix=None) == [tokenizer.encode("a b")]


def test_a_tokenizer_without_markers_cannot_fill():
    renderer = Renderer(tokenizer_of("byte-level"), decisions())
    error = refusal(renderer.render_completion, CompletionRequest(prompt="a", suffix="b"))
    assert error.param == "suffix"
    assert "no markers" in str(error)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"), ({"echo": True, "logprobs": 1}, "logprobs")],
)
def test_what_does_not_go_with_a_suffix_is_refused(tmp_path, fields, param):
    renderer = Renderer(coder(tmp_path, FAMILIES[0]), decisions())
    assert refusal(renderer.render_completion, CompletionRequest(prompt="a", suffix="b", **fields)).param == param
