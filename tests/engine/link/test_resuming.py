"""Wherever one engine is broken off, the next one gives what is missing: every step, every kind of request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from tests.support.requests import beam_request, generate_request, submission
from tests.support.schedules import Answer
from tests.support.scripted import scripted_engine

from quire_engine.engine import Engine
from quire_engine.link.frames import Abort, Add, Command, Report
from quire_engine.link.journal import Journal
from quire_engine.sequence import Submission

REQUESTS = (
    submission(0, [1, 2, 3], max_tokens=9),
    submission(1, range(1, 30), max_tokens=7, prompt_logprobs=0, logprobs=2),
    submission(2, [1, 2, 3, 4, 5, 6, 7, 8, 9], n=3, temperature=1, max_tokens=8),
    submission(3, [7] * 6, n=2, temperature=1, seed=5, max_tokens=12, ignore_eos=False, stop_token_ids=[*range(20)]),
    submission(4, [9], max_tokens=10, min_tokens=6, stop_token_ids=[*range(30, 97)]),
    Submission.of(5, beam_request([4, 5, 6], n=2, max_tokens=6)),
    Submission.of(6, generate_request([1, 2, 3, 4, 5], n=2, temperature=1, prompt_logprobs=0, max_tokens=3)),
)

SCARCE: dict[str, dict[str, Any]] = {
    "roomy": {},
    "chunks": {"max_num_batched_tokens": 5},
    "starved": {"num_blocks": 14, "max_num_seqs": 5},
    "no caching": {"enable_prefix_caching": False},
}


class Life:
    """Engines one after the other, and what was heard of them."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self.journal = Journal(seed=3, seats=16)
        self.answers: dict[tuple[int, int], Answer] = {}
        self.cached: dict[tuple[int, int], set[int]] = {}
        self.limits = limits
        self.engine = self.another()

    def another(self) -> Engine:
        return scripted_engine(seed=99, **self.limits)

    def tell(self, command: Command) -> None:
        match self.journal.note(command):
            case Add(told):
                self.engine.add(told)
            case Abort(handle, index):
                self.engine.abort(handle, index)

    def step(self) -> None:
        report = self.journal.hear(Report(self.engine.step(), self.engine.stats()))
        for emission in report.emissions:
            own = self.answers.setdefault((emission.handle, emission.index), Answer())
            assert own.finish_reason is None
            own.tokens += emission.token_ids
            own.logprobs += emission.logprobs
            own.prompt_logprobs += emission.prompt_logprobs
            own.finish_reason, own.error = emission.finish_reason, emission.error
            if emission.token_ids:
                self.cached.setdefault((emission.handle, emission.index), set()).add(emission.cached_tokens)

    def break_off(self) -> None:
        self.journal.broken_off(())
        self.engine = self.another()
        for command in self.journal.resume():
            self.engine.add(command.submission)

    def run(self, breaks: Iterable[int] = ()) -> int:
        """Answer all requests; another engine takes over before each of these steps. Returns how many there were."""
        for request in REQUESTS:
            self.tell(Add(request))
        steps = 0
        while self.engine.has_work:
            if steps in breaks:
                self.break_off()
            if steps == 4:
                self.tell(Abort(2, 1))
            self.step()
            steps += 1
            assert steps < 500
        return steps


@pytest.mark.parametrize("limits", SCARCE.values(), ids=SCARCE)
def test_an_engine_may_be_broken_off_before_any_step(limits: dict[str, Any]) -> None:
    whole = Life(limits)
    for step in range(whole.run()):
        broken = Life(limits)
        broken.run({step})
        assert without_the_aborted(broken) == without_the_aborted(whole)
        assert all(len(told) == 1 for told in broken.cached.values())


@pytest.mark.parametrize("limits", SCARCE.values(), ids=SCARCE)
def test_engines_may_be_broken_off_time_and_again(limits: dict[str, Any]) -> None:
    whole, broken = Life(limits), Life(limits)
    whole.run()
    broken.run(range(3, 60, 3))
    assert without_the_aborted(broken) == without_the_aborted(whole)


def without_the_aborted(life: Life) -> dict[tuple[int, int], Answer]:
    """An aborted choice has as many tokens as its schedule had given it by then."""
    return {key: answer for key, answer in life.answers.items() if key != (2, 1)}
