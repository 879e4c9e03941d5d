from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from tests.support.families import Family, save
from tests.support.replay import PlainCapture
from tests.support.requests import submission
from tests.support.schedules import ROOMY, SCHEDULES, Schedule, answer, finish, roomy_config, serve

from quire_engine.engine import Engine
from quire_engine.runner import graphs
from quire_engine.runner.graphs import GraphRunner, Shape, padded_sizes
from quire_engine.runner.load import graphed
from quire_protocol import SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [5, 9, 11, 3, 7, 7, 2, 40, 13], [80], [3] * 17]
GREEDY = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True, logprobs=2)


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    family = Family("gemma3_text", {"head_dim": 16, "sliding_window": 6})
    return Engine.load(roomy_config(model=str(save(family, tmp_path_factory.mktemp("gemma3")))))


def graph_engine(eager: Engine, capture: PlainCapture, **changes: Any) -> tuple[Engine, GraphRunner]:
    decisions = eager.decisions.model_copy(update=changes)
    runner = graphed(eager.runner, decisions, capture, torch.device("cpu"))
    return Engine(runner, decisions), runner


def improve_all(engine: Engine) -> int:
    return sum(1 for _ in iter(engine.improve, False))


@pytest.mark.parametrize("overlapped", [False, True], ids=["plain", "overlapped"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_replayed_steps_answer_as_eager_ones(
    eager: Engine, schedule: Schedule, overlapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "PATIENCE", 1)
    params = [GREEDY, SamplingParams(seed=7, max_tokens=9, ignore_eos=True, repetition_penalty=1.2)]
    requests = [(prompt, params[row % 2]) for row, prompt in enumerate(PROMPTS)]
    wanted = serve(eager, schedule, requests)
    capture = PlainCapture()
    engine, _ = graph_engine(eager, capture, async_scheduling=overlapped)
    got = serve(engine, schedule, requests)
    assert capture.replayed > 2 * capture.captured > 0
    for one, other in zip(got, wanted, strict=True):
        assert one.tokens == other.tokens
        for own, reference in zip(one.logprobs, other.logprobs, strict=True):
            assert own.top_logprobs == pytest.approx(reference.top_logprobs, abs=1e-4)


def test_a_cache_that_holds_no_numbers_is_no_reason_to_stay_eager(eager: Engine) -> None:
    engine, runner = graph_engine(eager, PlainCapture())
    answer(engine, [(PROMPTS[0], GREEDY)])
    eager.runner.cache.keys[0][0] = torch.nan  # type: ignore[attr-defined]
    assert not engine.improve()
    assert runner.refusal is None
    assert engine.improve()  # on the next block
    assert runner.shapes
    assert runner.mend([0, 1]) == [0]


def test_a_graph_that_cannot_be_proven_is_not_captured_again_at_once(
    eager: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "PATIENCE", 4)
    capture = PlainCapture()
    engine, runner = graph_engine(eager, capture)
    keys = eager.runner.cache.keys[0]  # type: ignore[attr-defined]
    bad = [len(keys) - 2, len(keys) - 1]
    keys[bad], runner._block = torch.nan, bad[0]
    answer(engine, [([80], SamplingParams(temperature=0, max_tokens=12, ignore_eos=True))])
    assert runner.mend(bad) == bad
    assert capture.captured == 3  # in the 4th, the 8th and the 12th step: on another block each time
    assert runner.shapes == {Shape(1, one_each=True)}


def test_serving_begins_eagerly_and_graphs_are_captured_when_idle(eager: Engine) -> None:
    capture = PlainCapture()
    engine, runner = graph_engine(eager, capture)
    assert not engine.improve()  # nothing was served yet
    answer(engine, [(PROMPTS[0], GREEDY)])
    assert capture.captured == 0
    assert engine.improve()
    assert runner.shapes == {Shape(1, one_each=True)}  # missed nine times; the prompt's own shape once
    assert engine.improve()
    assert Shape(16, one_each=False) in runner.shapes
    improve_all(engine)
    assert {shape.rows for shape in runner.shapes if shape.one_each} == {1, 2, 4, 8, 16}  # up to 16 sequences
    before = capture.replayed
    answer(engine, [([6] * 9, GREEDY)], handle=1)
    assert capture.replayed == before + 10


def test_a_graph_that_is_missed_often_is_captured_amid_work(eager: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PATIENCE", 4)
    capture = PlainCapture()
    engine, runner = graph_engine(eager, capture)
    answer(engine, [([80], GREEDY)])
    assert runner.shapes == {Shape(1, one_each=True)}
    assert capture.captured == 1


def test_capturing_leaves_the_cache_as_it_is(eager: Engine) -> None:
    engine, runner = graph_engine(eager, PlainCapture())
    answer(engine, [(PROMPTS[3], GREEDY)])
    cache = eager.runner._cache
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    assert improve_all(engine) > 2
    assert all(map(torch.equal, (*cache.keys, *cache.values), before))
    assert runner.refusal is None


def test_a_refusal_is_logged_with_the_reason_and_the_rest_is_served_eagerly(
    eager: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine, runner = graph_engine(eager, PlainCapture(refuses="operation not permitted when stream is capturing"))
    wanted = answer(engine, [(PROMPTS[0], GREEDY)])
    with caplog.at_level(logging.WARNING):
        improve_all(engine)
    assert runner.shapes == frozenset()
    assert not engine.improve()
    assert "operation not permitted" in caplog.text
    assert "Steps stay eager" in caplog.text
    assert answer(engine, [(PROMPTS[0], GREEDY)], handle=1)[0].tokens == wanted[0].tokens


def test_a_replay_that_ignores_its_inputs_is_not_used(eager: Engine) -> None:
    engine, runner = graph_engine(eager, PlainCapture(is_stale=True))
    answer(engine, [([80], GREEDY)])
    engine.improve()
    assert runner.shapes == frozenset()
    assert "other logits" in str(runner.refusal)


def test_a_step_with_scored_prompts_is_computed_eagerly(eager: Engine) -> None:
    capture = PlainCapture()
    engine, _ = graph_engine(eager, capture)
    answer(engine, [([80], GREEDY)])
    improve_all(engine)
    before = capture.replayed
    scored = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True, prompt_logprobs=1)
    (got,) = answer(engine, [(PROMPTS[0], scored)], handle=1)
    assert capture.replayed == before
    assert len(got.prompt_logprobs) == len(PROMPTS[0]) - 1


def test_a_step_too_large_for_any_graph_is_computed_eagerly(eager: Engine) -> None:
    engine, runner = graph_engine(eager, PlainCapture(), max_num_batched_tokens=8)
    assert [shape.rows for shape in runner._untried()] == [1, 2, 4, 8]
    engine, runner = graph_engine(eager, PlainCapture())
    engine.add(submission(0, PROMPTS[0], max_tokens=1))
    packed = eager.runner.pack(engine.scheduler.schedule())
    assert runner.shape_of(packed) == Shape(16, one_each=False)
    runner._sizes = (1, 2, 4, 8)
    assert runner.shape_of(packed) is None
    finish(engine)


def test_any_number_of_rows_up_to_the_largest_has_a_size_near_it() -> None:
    for most in (1, 3, 8, 100, 512):
        sizes = padded_sizes(most)
        assert list(sizes) == sorted(set(sizes))
        assert sizes[-1] >= most
        for rows in range(1, most + 1):
            size = next(size for size in sizes if size >= rows)
            assert size - rows < max(8, rows / 3)


def test_more_spans_than_seats_of_the_inputs_are_none(eager: Engine) -> None:
    engine, runner = graph_engine(eager, PlainCapture(), max_num_seqs=2)
    for handle in range(2):
        engine.add(submission(handle, [handle + 1], max_tokens=3))
    improve_all(engine)
    assert [own.tokens for own in finish(engine).values()]
    improve_all(engine)
    assert {shape.rows for shape in runner.shapes} == {1, 2}
    assert ROOMY["max_num_seqs"] > 2
