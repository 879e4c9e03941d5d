"""The overlapped loop answers as the other one does, with a model: for every schedule, drawn and scored too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.families import Checkpoints, family_named
from tests.support.schedules import SCHEDULES, Answer, Schedule, answer, roomy_config, serve

from quire_engine.engine import Engine
from quire_protocol import SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 13], [80], [3] * 17]


def overlapped_and_not(checkpoints: Checkpoints, name: str) -> list[Engine]:
    config = roomy_config(model=str(checkpoints.path(family_named(name))))
    engine = Engine.load(config)
    return [
        Engine(engine.runner, engine.decisions.model_copy(update={"async_scheduling": overlapped}))
        for overlapped in (False, True)
    ]


KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"seed": 3, "top_p": 0.8, "repetition_penalty": 1.3, "logprobs": 2},
    {"seed": 4, "presence_penalty": 1.0, "min_tokens": 4, "bad_words_token_ids": ((7, 9), (3,))},
    {"temperature": 0, "prompt_logprobs": 1, "stop_token_ids": [*range(20)]},
)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
def test_a_model_answers_alike_under_every_schedule(checkpoints: Checkpoints, name: str, schedule: Schedule) -> None:
    requests = [
        (prompt, SamplingParams(max_tokens=8 + row, ignore_eos=True, **KINDS[row]))
        for row, prompt in enumerate(PROMPTS)
    ]
    plain, ahead = (serve(engine, schedule, requests) for engine in overlapped_and_not(checkpoints, name))
    for one, other in zip(ahead, plain, strict=True):
        assert (one.tokens, one.finish_reason) == (other.tokens, other.finish_reason)
        assert_scores_alike(one, other)


def assert_scores_alike(one: Answer, other: Answer) -> None:
    for kind in ("logprobs", "prompt_logprobs"):
        for own, wanted in zip(getattr(one, kind), getattr(other, kind), strict=True):
            assert own.token_id == wanted.token_id
            assert own.logprob == pytest.approx(wanted.logprob, abs=1e-4)


def test_choices_of_one_request_are_drawn_alike(checkpoints: Checkpoints) -> None:
    params = SamplingParams(seed=5, n=3, max_tokens=9, ignore_eos=True, frequency_penalty=0.5)
    plain, ahead = (answer(engine, [(PROMPTS[0], params)]) for engine in overlapped_and_not(checkpoints, "llama"))
    assert [own.tokens for own in ahead] == [own.tokens for own in plain]
