"""A search by numbers alone is the plain one, and ends as soon as nothing can change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.plain_beams import Likeliest, PlainAnswer, plain_beam_search
from tests.support.scripted import VOCABULARY, likeliest

from quire_engine.scheduling.beams import Beam, BeamGroup, BeamRules, scoring_params
from quire_engine.sequence import TokenLogprobs
from quire_protocol import BeamSearchParams, SamplingParams

PROMPT = (3, 4, 5)


def after(context: list[int], count: int, model: Likeliest = likeliest) -> TokenLogprobs:
    ranked = model(context, count)
    ids, logprobs = zip(*ranked, strict=True)
    return TokenLogprobs(ids[0], logprobs[0], 1, ids, logprobs)


def search(rules: BeamRules, max_length: int = 100, model: Likeliest = likeliest) -> tuple[BeamGroup, int]:
    """A search on its own, and the steps that it took."""
    group, steps, contexts = BeamGroup(rules, len(PROMPT), max_length), 0, [list(PROMPT)]
    while not group.is_over:
        kept = group.advance([after(context, rules.candidates, model) for context in contexts])
        contexts = [[*contexts[place], token] for place, token in kept]
        steps += 1
    return group, steps


def answers(group: BeamGroup) -> list[tuple[tuple[int, ...], str]]:
    return [(tuple(token.token_id for token in beam.answer()), ending.reason) for beam, _, ending in group.answers()]


def plain(found: list[PlainAnswer]) -> list[tuple[tuple[int, ...], str]]:
    return [(answer.tokens, answer.finish_reason) for answer in found]


def rules(width: int = 2, max_tokens: int = 5, length_penalty: float = 1.0, **fields: object) -> BeamRules:
    return BeamRules(width, max_tokens, length_penalty, **{"eos": frozenset({0}), **fields})  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(1, 6),
    max_tokens=st.integers(1, 9),
    length_penalty=st.sampled_from([1.0, 0.0, -1.0, 0.5, 3.0]),
    ends=st.sets(st.integers(0, VOCABULARY - 1), max_size=40),
)
def test_it_finds_what_the_plain_search_finds(
    width: int, max_tokens: int, length_penalty: float, ends: set[int]
) -> None:
    group, _ = search(rules(width, max_tokens, length_penalty, eos=frozenset(ends)))
    expected = plain_beam_search(
        likeliest, PROMPT, width=width, max_tokens=max_tokens, length_penalty=length_penalty, ends=ends
    )
    assert answers(group) == plain(expected)
    assert [score for _, score, _ in group.answers()] == pytest.approx([answer.score for answer in expected])


def test_one_beam_is_the_greedy_answer() -> None:
    group, _ = search(rules(width=1, max_tokens=3, eos=frozenset()))
    context = list(PROMPT)
    for _ in range(3):
        context.append(likeliest(context, 1)[0][0])
    assert answers(group) == [(tuple(context[3:]), "length")]


def certain(context: list[int], count: int) -> list[tuple[int, float]]:
    """Ends for certain, whatever came before; everything else is all but impossible."""
    return [(0, -0.01), *((token, -50.0 - token) for token in range(1, count))]


def test_it_ends_when_no_live_beam_can_win() -> None:
    group, steps = search(rules(width=2, max_tokens=50, length_penalty=0.0), model=certain)
    assert steps == 2
    assert answers(group) == [((0,), "stop"), ((1, 0), "stop")]


def test_a_reward_for_length_keeps_it_going() -> None:
    _, steps = search(rules(width=2, max_tokens=50, length_penalty=9.0), model=certain)
    assert steps == 50


def test_the_context_ends_it_too() -> None:
    group, steps = search(rules(max_tokens=50, eos=frozenset()), max_length=len(PROMPT) + 4)
    assert steps == 4
    assert {reason for _, reason in answers(group)} == {"length"}


def test_an_ignored_end_is_a_token_like_any_other_that_does_not_count_at_the_end() -> None:
    group, _ = search(rules(width=1, max_tokens=1, ignore_eos=True), model=certain)
    ((beam, score, ending),) = group.answers()
    assert (beam.answer()[0].token_id, ending.reason) == (0, "length")
    assert score == pytest.approx(-0.01 / len(PROMPT))


def test_a_stop_token_is_told_and_an_end_of_sequence_token_is_not() -> None:
    group, _ = search(rules(width=1, stops=frozenset({1}), max_tokens=1), model=certain)
    assert group.answers()[0].ending == ("stop", None)
    group, _ = search(rules(width=1, eos=frozenset(), stops=frozenset({0}), max_tokens=1), model=certain)
    assert group.answers()[0].ending == ("stop", 0)


@pytest.mark.parametrize(("asked", "reported"), [(None, 0), (0, 0), (2, 2), (-1, 4)])
def test_an_answer_reports_as_many_alternatives_as_were_asked_for(asked: int | None, reported: int) -> None:
    group, _ = search(rules(width=2, logprobs=asked))
    best = group.answers()[0].beam.answer()
    context = list(PROMPT)
    for token in best:
        expected = likeliest(context, 4)
        assert list(zip(token.top_ids, token.top_logprobs, strict=True)) == expected[:reported]
        assert expected[token.rank - 1] == (token.token_id, token.logprob)
        context.append(token.token_id)


def test_a_step_needs_the_continuations_of_every_live_beam() -> None:
    group = BeamGroup(rules(), len(PROMPT), 100)
    with pytest.raises(ValueError, match="zip"):
        group.advance([])


def test_a_beam_without_tokens_is_the_prompt() -> None:
    assert Beam(length=3).answer() == ()


@pytest.mark.parametrize(("logprobs", "count"), [(None, 6), (2, 6), (8, 8), (-1, -1)])
def test_its_sequences_report_enough_and_draw_nothing(logprobs: int | None, count: int) -> None:
    asked = SamplingParams(n=3, temperature=0.7, top_k=2, presence_penalty=1, logprobs=logprobs, prompt_logprobs=1)
    own = BeamRules.of(BeamSearchParams(beam_width=3, max_tokens=4), asked, [0])
    expected = SamplingParams(temperature=0, max_tokens=None, logprobs=count, prompt_logprobs=1)
    assert scoring_params(asked, own) == expected
