"""Whatever comes, goes and fails, in whatever pool: invariants hold, work goes on, answers are those given alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.invariants import check_invariants
from tests.support.plain_beams import plain_beam_search
from tests.support.requests import beam_request, submission
from tests.support.scripted import EOS, VOCABULARY, ScriptedRunner, checksum, likeliest, scripted_engine

from quire_engine.engine import Engine
from quire_engine.sequence import Emission, Sequence, Submission, Terms
from quire_protocol import GenerateRequest

TERMS = st.builds(Terms, st.sampled_from(["a", "b", "c"]), st.sampled_from([1.0, 1.0, 3.0]))

MOST_STEPS = 20_000
"""More than any of these workloads takes; a halt fails the test instead of hanging it."""


def alone(request: GenerateRequest, index: int, longest: int) -> list[int]:
    """The answer that the script gives, without engine, cache or company."""
    params = request.sampling_params
    assert params.seed is not None
    sequence = Sequence(0, index, list(request.token_ids), len(request.token_ids), params, params.seed)
    answer: list[int] = []
    while True:
        answer.append(checksum(sequence, [*request.token_ids, *answer]))
        ended = answer[-1] == EOS and not params.ignore_eos
        if ended or len(answer) == params.max_tokens or len(request.token_ids) + len(answer) == longest:
            return answer


def searched(request: GenerateRequest, longest: int) -> dict[int, list[int]]:
    """The answers of a beam search, by choice."""
    params, asked = request.sampling_params, request.beam_search
    assert asked is not None
    found = plain_beam_search(
        likeliest,
        request.token_ids,
        width=asked.beam_width,
        max_tokens=min(asked.max_tokens, longest - len(request.token_ids)),
        length_penalty=asked.length_penalty,
        ends={*params.stop_token_ids, *(() if params.ignore_eos else (EOS,))},
        ignored=(EOS,),
    )
    return {index: list(answer.tokens) for index, answer in enumerate(found)}


class Workload(RuleBasedStateMachine):
    engine: Engine

    @initialize(
        num_blocks=st.integers(3, 24),
        block_size=st.sampled_from([1, 2, 4]),
        budget=st.integers(1, 24),
        seats=st.integers(1, 6),
        policy=st.sampled_from(["fcfs", "priority", "fair"]),
        caching=st.booleans(),
    )
    def start(self, num_blocks: int, block_size: int, budget: int, seats: int, policy: str, caching: bool) -> None:
        self.engine = scripted_engine(
            num_blocks=num_blocks,
            block_size=block_size,
            max_num_batched_tokens=budget,
            max_num_seqs=seats,
            scheduling_policy=policy,
            enable_prefix_caching=caching,
            max_model_len=40,
        )
        self.longest = min(40, num_blocks * block_size)
        self.asked: dict[int, GenerateRequest] = {}
        self.terms: dict[int, Terms] = {}
        self.told: dict[tuple[int, int], list[Emission]] = {}
        self.aborted: set[tuple[int, int]] = set()

    @rule(
        pattern=st.sampled_from([(1,), (1, 2), (1, 1, 2)]),  # few different prompts, and blocks that look alike
        length=st.integers(1, 16),
        terms=TERMS,
        fields=st.fixed_dictionaries(
            {
                "n": st.sampled_from([1, 1, 1, 2, 3]),
                "max_tokens": st.integers(1, 12),
                "temperature": st.sampled_from([0, 1]),
                "seed": st.integers(0, 3),
                "ignore_eos": st.booleans(),
                "priority": st.integers(-1, 1),
                "cache_salt": st.sampled_from([None, "salt"]),
                "prompt_logprobs": st.sampled_from([None, 0]),
            }
        ),
    )
    def add(self, pattern: tuple[int, ...], length: int, terms: Terms, fields: dict[str, Any]) -> None:
        prompt = list(islice(cycle(pattern), min(length, self.longest - 1)))
        asked = submission(len(self.asked), prompt, terms=terms, **fields)
        self.asked[asked.handle], self.terms[asked.handle] = asked.request, asked.terms
        self.engine.add(asked)

    @rule(
        pattern=st.sampled_from([(1,), (1, 2)]),
        length=st.integers(1, 16),
        terms=TERMS,
        fields=st.fixed_dictionaries(
            {
                "n": st.integers(1, 4),
                "max_tokens": st.integers(1, 12),
                "length_penalty": st.sampled_from([0.0, 1.0, 2.0]),
                "ignore_eos": st.booleans(),
                "stop_token_ids": st.sampled_from([(), tuple(range(0, VOCABULARY, 5))]),
                "priority": st.integers(-1, 1),
                "logprobs": st.sampled_from([None, 1]),
                "prompt_logprobs": st.sampled_from([None, 0]),
            }
        ),
    )
    def search(self, pattern: tuple[int, ...], length: int, terms: Terms, fields: dict[str, Any]) -> None:
        prompt = list(islice(cycle(pattern), min(length, self.longest - 1)))
        asked = Submission(len(self.asked), beam_request(prompt, **fields), terms=terms)
        self.asked[asked.handle], self.terms[asked.handle] = asked.request, asked.terms
        self.engine.add(asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), whole=st.booleans())
    def abort(self, data: st.DataObject, whole: bool) -> None:
        handle = data.draw(st.sampled_from(sorted(self.asked)))
        choices = range(self.asked[handle].sampling_params.n)
        index = None if whole or self.asked[handle].beam_search else data.draw(st.sampled_from(choices))
        self.aborted |= {(handle, choice) for choice in choices if index in (None, choice)}
        self.engine.abort(handle, index)

    @rule(times=st.integers(1, 8))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.step_once(self.engine.step)

    @rule()
    def a_step_fails_once(self) -> None:
        runner = self.engine.runner
        assert isinstance(runner, ScriptedRunner)
        runner.failing_steps = (runner.steps + 1,)
        self.step_once(self.engine.step)

    @rule(blocks=st.sets(st.integers(0, 2), min_size=1))
    def blocks_are_not_to_be_trusted(self, blocks: set[int]) -> None:
        self.engine.scheduler.distrust(blocks)
        assert not any(block.index in blocks for s in self.engine.scheduler.running for block in s.blocks)

    @rule()
    def an_engine_ends_and_another_resumes(self) -> None:
        """As after a crash: what was told is told to the new engine, which goes on with the rest."""
        decisions = self.engine.decisions
        unfinished = {h: sorted(choices) for h, choices in self.engine.scheduler.requests.items()}
        self.engine = scripted_engine(**decisions.model_dump())
        for handle, choices in unfinished.items():
            emitted = {index: tuple(self.tokens(handle, index)) for index in choices}
            self.engine.add(Submission(handle, self.asked[handle], emitted, terms=self.terms[handle]))
            if not emitted.get(0, (0,)):
                self.told.pop((handle, 0), None)  # prompt scores without a token are told again from the first on

    @invariant()
    def all_is_in_order(self) -> None:
        check_invariants(self.engine.scheduler)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for _ in range(MOST_STEPS):
            if not self.engine.has_work:
                break
            self.step_once(self.engine.step)
        assert not self.engine.has_work
        assert self.engine.stats().kv_usage == 0
        for handle, request in self.asked.items():
            found = searched(request, self.longest) if request.beam_search else {}
            for index in range(request.sampling_params.n):
                answer = found[index] if found else alone(request, index, self.longest)
                told = self.tokens(handle, index)
                if (handle, index) in self.aborted:
                    assert told == answer[: len(told)]
                    continue
                assert told == answer
                wants_scores = index == 0 and request.sampling_params.prompt_logprobs is not None
                assert self.scores(handle, index) == (request.token_ids[1:] if wants_scores else [])

    def step_once(self, step: Callable[[], list[Emission]]) -> None:
        had_work, before = self.engine.has_work, sum(map(len, self.engine.runner.batches))  # type: ignore[attr-defined]
        for emission in step():
            self.told.setdefault((emission.handle, emission.index), []).append(emission)
        computed = sum(map(len, self.engine.runner.batches)) - before  # type: ignore[attr-defined]
        assert bool(computed) == had_work, "work was there, and none was scheduled"

    def tokens(self, handle: int, index: int) -> list[int]:
        return [token for emission in self.told.get((handle, index), ()) for token in emission.token_ids]

    def scores(self, handle: int, index: int) -> list[int]:
        told = self.told.get((handle, index), ())
        return [score.token_id for emission in told for score in emission.prompt_logprobs]


def test_any_workload_keeps_the_invariants_and_the_answers() -> None:
    effort = settings(
        max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Workload, settings=effort)  # type: ignore[no-untyped-call]
