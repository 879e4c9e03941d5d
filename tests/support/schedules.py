"""Ways to serve the same requests that must give the same answers, and how to serve them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
from quire_engine.sequence import Submission, TokenLogprobs
from quire_protocol import GenerateRequest, SamplingParams

# Everything has room: block 8, 64 tokens a sequence, 16 sequences.
ROOMY = {"max_model_len": 64, "max_num_seqs": 16, "max_num_batched_tokens": 512, "block_size": 8}


def roomy_config(**fields: Any) -> EngineConfig:
    """An engine in which nothing is scarce, on the CPU."""
    return EngineConfig(device="cpu", **{**ROOMY, **fields})


@dataclass(frozen=True)
class Schedule:
    """What is made scarce, and how one sees that it was."""

    name: str
    scarce: Mapping[str, int] = field(default_factory=dict)
    repeats: int = 1
    """Times the requests are served by the same engine; the last time counts."""

    def __str__(self) -> str:
        return self.name

    def engine(self, roomy: Engine) -> Engine:
        """An engine on the same runner, with this schedule's limits and an empty cache."""
        return Engine(roomy.runner, roomy.decisions.model_copy(update=dict(self.scarce)))


CROWD = Schedule("all-at-once")
ALONE = Schedule("one-at-a-time", {"max_num_seqs": 1})
CHUNKS = Schedule("three-tokens-a-step", {"max_num_batched_tokens": 3})
STARVED = Schedule("starved", {"num_blocks": 6, "max_num_batched_tokens": 7})
AGAIN = Schedule("prefix-hits", {"max_num_batched_tokens": 11}, repeats=2)
SCHEDULES = (CROWD, ALONE, CHUNKS, STARVED, AGAIN)


@dataclass
class Answer:
    """What one choice of one request came to."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    error: str | None = None


def answer(engine: Engine, requests: list[tuple[list[int], SamplingParams]], handle: int = 0) -> list[Answer]:
    """Serve requests to their ends; the answers' choices, request by request."""
    for number, (prompt, params) in enumerate(requests, start=handle):
        engine.add(Submission(number, GenerateRequest(token_ids=prompt, sampling_params=params)))
    answers = finish(engine)
    return [
        answers[number, index] for number, (_, params) in enumerate(requests, start=handle) for index in range(params.n)
    ]


def finish(engine: Engine) -> dict[tuple[int, int], Answer]:
    """Step an engine until nothing is left to do; the answers by handle and choice."""
    answers: defaultdict[tuple[int, int], Answer] = defaultdict(Answer)
    for _ in range(10_000):
        if not engine.has_work:
            return answers
        for emission in engine.step():
            own = answers[emission.handle, emission.index]
            own.tokens += emission.token_ids
            own.logprobs += emission.logprobs
            own.prompt_logprobs += emission.prompt_logprobs
            own.finish_reason, own.error = emission.finish_reason, emission.error
    raise AssertionError("the engine does not come to an end")


def serve(roomy: Engine, schedule: Schedule, requests: list[tuple[list[int], SamplingParams]]) -> list[Answer]:
    """Serve requests under a schedule, and check that what should be scarce was scarce."""
    engine = schedule.engine(roomy)
    for turn in range(schedule.repeats):
        answers = answer(engine, requests, handle=turn * len(requests))
    stats = engine.stats()
    assert (stats.preemptions > 0) == (schedule is STARVED)
    assert stats.prefix_cache_hits > 0 or schedule is not AGAIN
    return answers
