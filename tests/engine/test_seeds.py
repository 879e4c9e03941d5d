"""A seeded request gives the same tokens however it is scheduled, and whoever is served beside it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from tests.support.families import family_named, save
from tests.support.schedules import AGAIN, ALONE, CHUNKS, CROWD, Schedule, answer, finish, roomy_config

from quire_engine.engine import Engine
from quire_engine.sequence import Submission
from quire_protocol import GenerateRequest, SamplingParams

SHARED = [5, 9, 11, 3, 7, 7, 2, 40]  # one block, for prefix hits
PROMPT = [*SHARED, *SHARED, 41, 42]
VOCABULARY = 97
NEW_TOKENS = 24

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "top-p": {"top_p": 0.8, "temperature": 1.3},
    "top-k and min-p": {"top_k": 20, "min_p": 0.02},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.3, "logit_bias": {9: 2.0}},
    "scored": {"logprobs": 4},
    "several choices": {"n": 3},
}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = save(family_named("qwen3"), tmp_path_factory.mktemp("seeded"))
    engine = Engine.load(roomy_config(model=str(path), max_num_seqs=64))
    yield engine
    engine.close()


def seeded(seed: int, **params: Any) -> SamplingParams:
    return SamplingParams(seed=seed, max_tokens=NEW_TOKENS, ignore_eos=True, **params)


def crowd(size: int) -> list[tuple[list[int], SamplingParams]]:
    """Requests of every kind, seeded and not; some begin like the one that is looked at."""
    random = Random(size)
    beginnings = ([], SHARED, PROMPT)
    return [
        (
            [*random.choice(beginnings), *(random.randrange(2, VOCABULARY) for _ in range(random.randint(1, 12)))],
            SamplingParams(
                **{
                    "seed": random.choice([None, 7]),
                    "temperature": random.choice([0.0, 0.7, 2.0]),
                    "max_tokens": random.randint(1, NEW_TOKENS),
                    **random.choice([*KINDS.values()]),
                }
            ),
        )
        for _ in range(size)
    ]


def tokens(engine: Engine, params: SamplingParams, neighbours: int = 0, handle: int = 0) -> list[list[int]]:
    """The request's choices, served in the middle of a crowd."""
    others = crowd(neighbours)
    before, after = others[: neighbours // 2], others[neighbours // 2 :]
    answers = answer(engine, [*before, (PROMPT, params), *after], handle)
    first = sum(each.n for _, each in before)
    return [each.tokens for each in answers[first : first + params.n]]


@pytest.mark.parametrize("kind", KINDS)
def test_alone_in_a_crowd_and_in_parts(roomy: Engine, kind: str) -> None:
    params = seeded(7, **KINDS[kind])
    expected = tokens(ALONE.engine(roomy), params)
    assert len({tuple(each) for each in expected}) == params.n
    assert tokens(CROWD.engine(roomy), params, neighbours=64) == expected
    assert tokens(CHUNKS.engine(roomy), params, neighbours=5) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_after_preemption(roomy: Engine, kind: str) -> None:
    params = seeded(7, **KINDS[kind])
    expected = tokens(ALONE.engine(roomy), params)
    scarce = Schedule("scarce", {"num_blocks": 24, "max_num_batched_tokens": 40}).engine(roomy)
    others = crowd(8)
    for handle, (prompt, own) in enumerate([*others, (PROMPT, params)]):  # who comes last gives way first
        scarce.add(Submission(handle, GenerateRequest(token_ids=prompt, sampling_params=own)))
    watched = tuple(scarce.scheduler.requests[len(others)].values())
    answers = finish(scarce)
    assert [answers[len(others), index].tokens for index in range(params.n)] == expected
    assert any(sequence.preemptions for sequence in watched)


@pytest.mark.parametrize("kind", KINDS)
def test_with_prefix_hits(roomy: Engine, kind: str) -> None:
    params = seeded(7, **KINDS[kind])
    engine = AGAIN.engine(roomy)
    first = tokens(engine, params)
    hits = engine.stats().prefix_cache_hits
    assert tokens(engine, params, handle=100) == first
    assert engine.stats().prefix_cache_hits - hits >= 2 * len(SHARED)


def test_another_seed_gives_another_answer(roomy: Engine) -> None:
    answers = {tuple(tokens(ALONE.engine(roomy), seeded(seed))[0]) for seed in (0, 1, 2**63 - 1, -(2**63), -2)}
    assert len(answers) == 5
