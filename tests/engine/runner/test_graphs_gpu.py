from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import Checkpoints, family_named
from tests.support.requests import submission
from tests.support.schedules import ROOMY, SCHEDULES, answer, serve

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.runner.graphs import GraphRunner
from quire_protocol import SamplingParams

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 13], [80], [3] * 17]
PARAMS = (
    SamplingParams(temperature=0, max_tokens=12, ignore_eos=True),
    SamplingParams(seed=7, max_tokens=12, ignore_eos=True, repetition_penalty=1.2, top_p=0.9),
)
REQUESTS = [(prompt, PARAMS[row % 2]) for row, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("families"))


def load(path: Path, **fields: Any) -> Engine:
    small = {"dtype": "float32", "kv_cache_memory_bytes": 64 << 20}
    return Engine.load(EngineConfig(model=str(path), device="cuda", **{**ROOMY, **small, **fields}))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt_oss", "qwen3_moe"])
def test_graphs_and_overlap_answer_as_eager_steps_do(checkpoints: Checkpoints, name: str) -> None:
    path = checkpoints.path(family_named(name))
    plain = load(path, enforce_eager=True, async_scheduling=False, fusion=False)
    wanted = [own.tokens for own in answer(plain, REQUESTS)]
    engine = load(path)
    assert engine.decisions.async_scheduling
    for _ in range(2):
        for schedule in SCHEDULES:
            assert [own.tokens for own in serve(engine, schedule, REQUESTS)] == wanted, schedule
        while engine.improve():
            pass


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_dense_models_are_captured(checkpoints: Checkpoints, name: str) -> None:
    engine = load(checkpoints.path(family_named(name)))
    answer(engine, REQUESTS)
    while engine.improve():
        pass
    assert isinstance(engine.runner, GraphRunner)
    assert engine.runner.refusal is None
    assert len(engine.runner.shapes) > 3


def test_launching_a_step_ahead_waits_for_nothing(checkpoints: Checkpoints) -> None:
    engine = load(checkpoints.path(family_named("qwen3")))
    answer(engine, REQUESTS)
    while engine.improve():
        pass
    for handle, (prompt, _) in enumerate(REQUESTS, start=100):
        engine.add(submission(handle, prompt, max_tokens=12))
    for _ in range(3):
        engine.step()
    assert engine._next is not None
    ahead = engine.scheduler.foresee(engine._next.batch)
    assert ahead
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.runner.run(ahead)
    finally:
        torch.cuda.set_sync_debug_mode("default")
