from __future__ import annotations

import pytest
from tests.support.families import Family, save
from tests.support.schedules import AGAIN, CHUNKS, CROWD, STARVED, Schedule, answer, roomy_config, serve

from quire_engine.engine import Engine
from quire_engine.runner import eager
from quire_protocol import SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 41, 13, 14], [80], [3] * 17]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = save(Family("qwen3", {"head_dim": 16}), tmp_path_factory.mktemp("qwen3"))
    return Engine.load(roomy_config(model=str(folder)))


@pytest.mark.parametrize("schedule", [CROWD, CHUNKS, STARVED, AGAIN], ids=str)
def test_a_seeded_request_says_the_same_alone_and_in_a_crowd(engine: Engine, schedule: Schedule) -> None:
    kinds = [{}, {"top_p": 0.8, "repetition_penalty": 1.3}, {"top_k": 9, "temperature": 1.5}, {"min_p": 0.1}]
    requests = [
        (prompt, SamplingParams(seed=40 + row, max_tokens=10, ignore_eos=True, **kinds[row]))
        for row, prompt in enumerate(PROMPTS)
    ]
    alone = [answer(Schedule("").engine(engine), [request])[0].tokens for request in requests]
    crowd = serve(engine, schedule, requests)
    assert [own.tokens for own in crowd] == alone
    assert len({tuple(tokens) for tokens in alone}) == len(PROMPTS)


def test_choices_of_one_request_differ_and_repeat(engine: Engine) -> None:
    params = SamplingParams(seed=3, n=4, max_tokens=8, ignore_eos=True)
    first, again = (answer(CROWD.engine(engine), [(PROMPTS[0], params)]) for _ in range(2))
    assert [own.tokens for own in first] == [own.tokens for own in again]
    assert len({tuple(own.tokens) for own in first}) == 4


def test_prompt_logprobs_are_the_same_whatever_the_parts_they_are_computed_in(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True, logprobs=1, prompt_logprobs=3)
    requests = [(prompt, params) for prompt in PROMPTS]
    whole = answer(CROWD.engine(engine), requests)
    monkeypatch.setattr(eager, "SCORED_LOGITS", 5 * 97)
    parts = answer(CROWD.engine(engine), requests)
    for one, other, prompt in zip(whole, parts, PROMPTS, strict=True):
        assert one.tokens == other.tokens
        assert len(one.prompt_logprobs) == len(prompt) - 1
        for left, right in zip(one.prompt_logprobs, other.prompt_logprobs, strict=True):
            assert left.token_id == right.token_id
            assert left.top_logprobs == pytest.approx(right.top_logprobs, abs=1e-5)


def test_only_what_asks_for_scores_gets_them(engine: Engine) -> None:
    asked = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True, prompt_logprobs=0)
    plain = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    with_scores, without = answer(CROWD.engine(engine), [(PROMPTS[0], asked), (PROMPTS[1], plain)])
    assert [entry.token_id for entry in with_scores.prompt_logprobs] == PROMPTS[0][1:]
    assert all(entry.top_ids == () for entry in with_scores.prompt_logprobs)
    assert without.prompt_logprobs == []
    assert without.logprobs == []
