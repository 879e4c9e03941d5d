"""Whatever fails, for whomever, at whatever step: nobody else's answer changes by a token. With a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.faults import PLACES, FaultyRunner, Rule, Where, any_of, nobody, whoever_has
from tests.support.guided import constrained, json_grammar, save_model
from tests.support.invariants import check_invariants
from tests.support.replay import PlainCapture
from tests.support.requests import beam_request
from tests.support.schedules import ALONE, CHUNKS, CROWD, STARVED, Answer, Schedule, finish, roomy_config
from torch import Tensor

from quire_engine.engine import Engine
from quire_engine.runner import graphs
from quire_engine.runner.base import OutOfMemory, Runner
from quire_engine.runner.eager import EagerRunner
from quire_engine.runner.load import graphed
from quire_engine.sampling.base import Step
from quire_engine.sampling.sampler import Sampled, Sampler
from quire_engine.scheduling.batch import Batch
from quire_engine.sequence import Rendered, Sequence, Submission
from quire_protocol import GenerateRequest, SamplingParams

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SHARED = [5, 9, 11, 3, 7, 7, 2, 40, 41, 42, 8, 8]
"""More than a block, which several prompts begin with."""
KINDS: tuple[tuple[list[int], dict[str, Any], Rendered], ...] = (
    (SHARED, {}, Rendered()),
    ([*SHARED, 3], {"temperature": 0.9, "seed": 3, "top_p": 0.8, "logprobs": 2}, Rendered()),
    ([80], {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2}, Rendered()),
    ([3] * 17, {"n": 3, "temperature": 1.0, "seed": 5}, Rendered()),
    ([*SHARED, 9, 9], {"prompt_logprobs": 1, "logprobs": 0}, Rendered()),
    ([1, 2, 3], {"ignore_eos": False, "max_tokens": 30}, constrained(json_grammar(PERSON))),
    ([60, 61], {"bad_words_token_ids": ((7, 9), (3,)), "logit_bias": {9: 3.0}, "min_tokens": 4}, Rendered()),
    ([*SHARED, 77], {"stop_token_ids": tuple(range(40, 60))}, Rendered()),
)
REQUESTS = tuple(
    (prompt, SamplingParams(**{"temperature": 0, "ignore_eos": True, "max_tokens": 14} | fields), added)
    for prompt, fields, added in KINDS
)
SEARCH = 100
"""The handle of one request more, which searches with three beams."""
Answers = dict[tuple[int, int], Answer]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def native(model: str) -> Iterator[Engine]:
    yield from loaded(model)


@pytest.fixture(scope="module")
def eager(model: str) -> Iterator[Engine]:
    yield from loaded(model, native=False)


def loaded(model: str, **fields: Any) -> Iterator[Engine]:
    engine = Engine.load(roomy_config(model=model, enable_prompt_embeds=True, **fields))
    yield engine
    engine.close()


@pytest.fixture(params=["native", "eager", "graphed"])
def roomy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    if request.param != "graphed":
        return request.getfixturevalue(request.param)
    monkeypatch.setattr(graphs, "PATIENCE", 1)
    own = request.getfixturevalue("eager")
    runner = graphed(own.runner, own.decisions, PlainCapture(), torch.device("cpu"))
    return Engine(runner, own.decisions, guides=own.guides)


def eager_runner(engine: Engine) -> EagerRunner:
    runner = engine.runner
    runner = runner.runner if isinstance(runner, FaultyRunner) else runner
    own = runner if isinstance(runner, EagerRunner) else runner._eager  # type: ignore[attr-defined]
    assert isinstance(own, EagerRunner)
    return own


def on(roomy: Engine, runner: Runner, schedule: Schedule = CROWD, *, overlapped: bool = False) -> Engine:
    changes = {**schedule.scarce, "async_scheduling": overlapped}
    return Engine(runner, roomy.decisions.model_copy(update=changes), guides=roomy.guides)


def asked(engine: Engine, requests: tuple[Any, ...] = REQUESTS) -> Engine:
    for handle, (prompt, params, added) in enumerate(requests):
        request = GenerateRequest(token_ids=prompt, sampling_params=params)
        engine.add(Submission(handle, request, rendered=added))
    engine.add(Submission(SEARCH, beam_request(SHARED, n=3, max_tokens=12, ignore_eos=True)))
    return engine


def served(roomy: Engine, rule: Rule, where: Where, schedule: Schedule, *, overlapped: bool) -> Answers:
    """The answers, and that nothing is left behind."""
    engine = asked(on(roomy, FaultyRunner(roomy.runner, rule, where), schedule, overlapped=overlapped))
    answers = finish(engine)
    check_clean(engine)
    return answers


def check_clean(engine: Engine) -> None:
    check_invariants(engine.scheduler)
    assert engine.scheduler.pool.num_free == len(engine.scheduler.pool.blocks)
    found = [block.index for block in engine.scheduler.pool.blocks if block.digest is not None]
    assert eager_runner(engine).mend(found) == []


def check_alike(found: Answers, wanted: Answers, culprits: set[int]) -> None:
    for key, answer in wanted.items():
        own = found[key]
        if key[0] in culprits:
            assert own.finish_reason in ("error", answer.finish_reason)
            assert own.tokens == ([] if key[0] == SEARCH else answer.tokens[: len(own.tokens)])
            continue
        assert (own.tokens, own.finish_reason) == (answer.tokens, answer.finish_reason)
        for kind in ("logprobs", "prompt_logprobs"):
            scores = [score.logprob for score in getattr(own, kind)]
            assert scores == pytest.approx([score.logprob for score in getattr(answer, kind)], abs=1e-4)


# --- steps that raise


@pytest.mark.parametrize("overlapped", [False, True], ids=["plain", "overlapped"])
@pytest.mark.parametrize("schedule", [CROWD, ALONE, CHUNKS, STARVED], ids=str)
def test_those_who_fail_at_random_steps_end_alone(roomy: Engine, schedule: Schedule, overlapped: bool) -> None:
    wanted = served(roomy, nobody, "before", CROWD, overlapped=False)
    draw = Random(f"{schedule}{overlapped}")
    for turn in range(4):
        culprits = set(draw.sample([*range(len(REQUESTS)), SEARCH], 1 + turn % 3))
        rule = any_of(*(whoever_has(handle, draw.randrange(6)) for handle in culprits))
        found = served(roomy, rule, PLACES[turn % 3], schedule, overlapped=overlapped)
        check_alike(found, wanted, culprits)
        assert all(found[handle, 0].finish_reason == "error" for handle in culprits)


@pytest.mark.parametrize("overlapped", [False, True], ids=["plain", "overlapped"])
def test_steps_that_fail_once_are_noticed_by_nobody(roomy: Engine, overlapped: bool) -> None:
    wanted = served(roomy, nobody, "before", CROWD, overlapped=False)
    for place in PLACES:
        check_alike(served(roomy, now_and_then(Random(place)), place, CHUNKS, overlapped=overlapped), wanted, set())


def now_and_then(draw: Random) -> Rule:
    """One pass fails, and then none for a while."""
    passes, failing = count(), {*accumulate(draw.randrange(3, 12) for _ in range(8))}
    return lambda batch: RuntimeError("now and then") if next(passes) in failing else None


@pytest.mark.parametrize("most", [2, 7])
def test_a_device_with_little_memory_answers_all_the_same(native: Engine, most: int) -> None:
    def rule(batch: Batch) -> Exception | None:
        return OutOfMemory("full") if batch.tokens > most else None

    wanted = served(native, nobody, "before", CROWD, overlapped=False)
    check_alike(served(native, rule, "before", CROWD, overlapped=True), wanted, set())


@dataclass
class FaultySampler:
    """Fails whenever this request is to be drawn."""

    sampler: Sampler
    handle: int

    def sample(self, logits: Tensor, sequences: list[Sequence], step: Step) -> Sampled:
        if any(sequence.handle == self.handle and sequence.output_length == 3 for sequence in sequences):
            raise ValueError("a sampler that was told to fail")
        return self.sampler.sample(logits, sequences, step)


@pytest.mark.parametrize("handle", [*range(len(REQUESTS)), SEARCH])
def test_whom_the_sampler_fails_for_ends_alone(native: Engine, handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = served(native, nobody, "before", CROWD, overlapped=False)
    own = eager_runner(native)
    monkeypatch.setattr(own, "_sampler", FaultySampler(own._sampler, handle))
    found = served(native, nobody, "before", CROWD, overlapped=True)
    check_alike(found, wanted, {handle})
    assert "ValueError" in (found[handle, 0].error or "")


# --- what is no number


def poison(roomy: Engine, prompt_length: int = 20, at: int = 3) -> tuple[Any, ...]:
    """A request whose prompt is embeddings, one of which is no number."""
    width = roomy.decisions.embeds_width
    assert width is not None
    rows = np.random.default_rng(0).normal(size=(prompt_length, width)).astype("<f4")
    rows[at, 0] = np.nan
    params = SamplingParams(temperature=0, max_tokens=5)
    return [0] * prompt_length, params, Rendered(embeds=rows.tobytes())


@pytest.mark.parametrize("overlapped", [False, True], ids=["plain", "overlapped"])
@pytest.mark.parametrize("schedule", [CROWD, CHUNKS, STARVED], ids=str)
def test_a_request_for_which_the_model_gives_no_numbers_ends_alone(
    roomy: Engine, schedule: Schedule, overlapped: bool
) -> None:
    wanted = served(roomy, nobody, "before", CROWD, overlapped=False)
    engine = asked(on(roomy, roomy.runner, schedule, overlapped=overlapped), (*REQUESTS, poison(roomy)))
    found = finish(engine)
    check_alike(found, wanted, set())
    assert "not finite numbers" in (found[len(REQUESTS), 0].error or "")
    assert engine.stats().mended_blocks > 0
    assert engine.stats().corrupted_requests >= 1
    check_clean(engine)
    assert eager_runner(roomy).mend(range(engine.decisions.num_blocks)) == []  # nothing that could be handed out next


def test_what_a_prompt_without_numbers_left_when_it_was_aborted_spoils_nobody(native: Engine) -> None:
    engine = on(native, native.runner, CHUNKS)
    bad = poison(native, at=0)
    engine.add(Submission(0, GenerateRequest(token_ids=bad[0], sampling_params=bad[1]), rendered=bad[2]))
    for _ in range(5):
        engine.step()  # all but its last tokens, and none was drawn
    engine.abort(0)
    found = finish(asked(engine))
    check_alike(found, served(native, nobody, "before", CROWD, overlapped=False), set())
    check_clean(engine)


@pytest.mark.parametrize("overlapped", [False, True], ids=["plain", "overlapped"])
@pytest.mark.parametrize("seed", range(6))
def test_blocks_that_lose_their_numbers_are_computed_anew(roomy: Engine, seed: int, overlapped: bool) -> None:
    wanted = served(roomy, nobody, "before", CROWD, overlapped=False)
    engine = asked(on(roomy, roomy.runner, overlapped=overlapped))
    draw, cache = Random(seed), eager_runner(roomy).cache
    found: Answers = {}
    for step in range(200):
        if not engine.has_work:
            break
        if step == 2 + seed:  # a cosmic ray
            sequence = draw.choice([*engine.scheduler.running])
            block, layer = sequence.blocks[0].index, draw.randrange(len(cache.keys))
            draw.choice([cache.keys, cache.values])[layer][block, 0] = draw.choice([torch.nan, torch.inf])
        take(found, engine)
    check_alike(found, wanted, set())
    check_clean(engine)


def take(answers: Answers, engine: Engine) -> None:
    for emission in engine.step():
        own = answers.setdefault((emission.handle, emission.index), Answer())
        own.tokens += emission.token_ids
        own.logprobs += emission.logprobs
        own.prompt_logprobs += emission.prompt_logprobs
        own.finish_reason, own.error = emission.finish_reason, emission.error


@dataclass
class Blinking:
    """A sampler that is once given no numbers, in one row."""

    sampler: Sampler
    number: float
    left: int = 3

    def sample(self, logits: Tensor, sequences: list[Sequence], step: Step) -> Sampled:
        if self.left and len(sequences) > 2:
            self.left -= 1
            logits[self.left] = self.number
        return self.sampler.sample(logits, sequences, step)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_no_numbers_once_are_computed_again(
    eager: Engine, number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = served(eager, nobody, "before", CROWD, overlapped=False)
    own = eager_runner(eager)
    monkeypatch.setattr(own, "_sampler", Blinking(own._sampler, number))
    check_alike(served(eager, nobody, "before", CROWD, overlapped=False), wanted, set())
