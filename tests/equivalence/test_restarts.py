"""Killing the engine's process changes nothing that a client sees, but when it comes."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.support.guided import THINK, constrained, ids, json_grammar, save_model
from tests.support.requests import beam_request

from quire_engine import AsyncEngine, EngineConfig
from quire_engine.async_engine import RequestOutputs
from quire_engine.constraint import Thinking
from quire_engine.link.process import ProcessLink
from quire_engine.sequence import Rendered, RenderedRequest, TokenLogprobs
from quire_engine.text.output import Output
from quire_protocol import GenerateRequest, SamplingParams

PATIENCE = 120.0
"""Seconds for all streams, restarts included."""
DEATHS = 2
"""How often the engine is killed meanwhile."""
LONG = 70
"""Tokens of an answer that nothing ends before."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "tags", "age"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},  # so that an answer ends by itself
}
HELD = constrained(json_grammar(PERSON))
AFTER_THINKING = constrained(
    f"start: /[^<]*/ <[{THINK}]> answer\nanswer: %json {json.dumps(PERSON)}",
    thinking=Thinking(limit=20, begin=(), end=(THINK,), is_open=True),
)
THINKING = Rendered(thinking=Thinking(limit=25, begin=(), end=(1, 2), is_open=True))

KINDS: dict[str, tuple[dict[str, Any], Rendered]] = {
    "greedy": ({}, Rendered()),
    "penalized": ({"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4}, Rendered()),
    "several choices": ({"n": 3, "temperature": 1.0, "seed": 7}, Rendered()),
    "no seed": ({"n": 2, "temperature": 1.0}, Rendered()),
    "seeded": ({"temperature": 0.8, "seed": 3, "top_p": 0.9, "top_k": 40, "min_p": 0.01}, Rendered()),
    "stop string": ({"stop": ("e", "zz"), "min_tokens": 20}, Rendered()),
    "stop token": ({"stop_token_ids": tuple(range(200, 260)), "min_tokens": 30}, Rendered()),
    "scored": ({"logprobs": 2}, Rendered()),
    "scored prompt": ({"prompt_logprobs": 1, "logprobs": 0}, Rendered()),
    "biased": ({"logit_bias": {60: 3.0, 61: -100.0}, "bad_words_token_ids": ((70, 71), (80,))}, Rendered()),
    "form": ({"ignore_eos": False}, HELD),
    "drawn form": ({"ignore_eos": False, "temperature": 1.2, "n": 2}, HELD),
    "scored form": ({"ignore_eos": False, "logprobs": 1}, HELD),
    "reasoning": ({}, THINKING),
    "form after reasoning": ({"ignore_eos": False}, AFTER_THINKING),
}


@dataclass
class Answer:
    """What a client has seen of one choice."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs | None] = field(default_factory=list)

    def hear(self, output: Output) -> None:
        assert self.finish_reason is None
        self.token_ids += output.token_ids
        self.text += output.text
        self.finish_reason, self.stop_reason = output.finish_reason, output.stop_reason
        self.logprobs += output.logprobs
        self.prompt_logprobs += output.prompt_logprobs or ()

    @property
    def facts(self) -> tuple[Any, ...]:
        """All that must be the same to the last bit."""
        return self.token_ids, self.text, self.finish_reason, self.stop_reason

    @property
    def scores(self) -> list[tuple[int, float]]:
        """Tokens and their log-probabilities, the prompt's first."""
        told = [score for score in self.prompt_logprobs if score is not None] + self.logprobs
        return [(score.token_id, score.logprob) for score in told]


def requests() -> list[GenerateRequest]:
    """Thirty-two: two of each kind with prompts of different lengths, and two searches."""
    made: list[GenerateRequest] = []
    for place, (fields, added) in enumerate(list(KINDS.values()) * 2):
        prompt = ids("Once upon a time, there was ")[: 4 + place % 5] + [5 + place] * (1 + place % 7)
        params = SamplingParams(**{"temperature": 0, "max_tokens": LONG, "ignore_eos": True} | fields)
        made.append(RenderedRequest.of(GenerateRequest(token_ids=prompt, sampling_params=params), added))
    return [*made, beam_request([5, 6], n=3, max_tokens=40), beam_request([7] * 9, n=2, max_tokens=30)]


async def hear(outputs: RequestOutputs) -> list[Answer]:
    answers = [Answer() for _ in range(outputs.request.sampling_params.n)]
    async for output in outputs:
        answers[output.index].hear(output)
    return answers


async def kill(engine: AsyncEngine, at: Iterable[int]) -> None:
    """End the engine's process as soon as so many tokens were generated, time and again."""
    for tokens in at:
        while engine.stats.generation_tokens < tokens or engine.state != "ready":
            await asyncio.sleep(0.001)
        link = engine._link.link._link
        assert isinstance(link, ProcessLink)
        link._child._process.kill()
        while engine.state == "ready":
            await asyncio.sleep(0.001)


async def serve(model: str, deaths: Iterable[int] = ()) -> list[list[Answer]]:
    """The answers to all requests, asked for at once."""
    config = EngineConfig(
        model=model, device="cpu", max_model_len=128, max_num_seqs=48, block_size=8, max_engine_deaths=DEATHS + 1
    )
    engine = await AsyncEngine.start(config)
    try:
        async with asyncio.timeout(PATIENCE):
            streams = [hear(await engine.submit(request)) for request in requests()]
            *answers, _ = await asyncio.gather(*streams, kill(engine, deaths))
        assert engine.restarts == len(tuple(deaths))
        return answers
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(Path(tmp_path_factory.mktemp("restarts")))


@pytest.fixture(scope="module")
def wanted(model: str) -> list[list[Answer]]:
    return asyncio.run(serve(model))


@pytest.mark.parametrize("seed", range(2))
def test_an_engine_that_is_killed_changes_no_answer(model: str, wanted: list[list[Answer]], seed: int) -> None:
    tokens = sum(len(answer.token_ids) for choices in wanted for answer in choices)
    moments = sorted(Random(seed).sample(range(1, int(tokens * 0.9)), DEATHS))
    found = asyncio.run(serve(model, moments))
    for kind, ours, theirs in zip([*KINDS, *KINDS, "beams", "beams"], found, wanted, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.facts == other.facts, kind
            assert [token for token, _ in one.scores] == [token for token, _ in other.scores], kind
            assert all(math.isclose(a[1], b[1], abs_tol=1e-4) for a, b in zip(one.scores, other.scores, strict=True))
