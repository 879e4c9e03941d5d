"""A prompt given as embeddings is answered as its token ids are: for every family, beside others, in any schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.support.families import FAMILIES, Checkpoints, family_named
from tests.support.schedules import CHUNKS, CROWD, SCHEDULES, STARVED, Answer, Schedule, finish, roomy_config
from transformers import AutoModelForCausalLM

from quire_engine.engine import Engine
from quire_engine.errors import ModelNotSupported
from quire_engine.sequence import Rendered, RenderedRequest, Submission
from quire_protocol import GenerateRequest, SamplingParams

PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [80], [3] * 17, [5, 9, 11, 3, 7, 7, 2, 40, 13]]
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=3)
LOOK_UP_MORE = ["gemma3n_text", "gemma4_text"]
"""Families that look up something for each layer by id, which embeddings cannot say."""
FAMILIES_THAT_TAKE = [str(family) for family in FAMILIES if str(family) not in LOOK_UP_MORE]


def load(checkpoints: Checkpoints, name: str) -> Engine:
    return Engine.load(roomy_config(model=str(checkpoints.path(family_named(name))), enable_prompt_embeds=True))


def embedded(checkpoints: Checkpoints, name: str) -> list[bytes]:
    """What the model's own embedding makes of each prompt."""
    embed = AutoModelForCausalLM.from_pretrained(checkpoints.path(family_named(name))).get_input_embeddings()
    with torch.inference_mode():
        return [embed(torch.tensor(prompt)).numpy().astype("<f4").tobytes() for prompt in PROMPTS]


def serve(
    roomy: Engine, schedule: Schedule, embeds: list[bytes], params: SamplingParams, *, salt: str | None = None
) -> list[Answer]:
    """Every prompt, as ids where `embeds` has nothing for it."""
    engine = schedule.engine(roomy)
    for turn in range(schedule.repeats):
        first = turn * len(PROMPTS)
        for number, (prompt, rows) in enumerate(zip(PROMPTS, embeds, strict=True), start=first):
            ids = [0] * len(prompt) if rows else prompt
            request = GenerateRequest(token_ids=ids, sampling_params=params, cache_salt=salt)
            engine.add(Submission.of(number, RenderedRequest.of(request, Rendered(embeds=rows)) if rows else request))
        answers = finish(engine)
    assert (engine.stats().preemptions > 0) == (schedule is STARVED)
    return [answers[first + number, 0] for number in range(len(PROMPTS))]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # GPT-BigCode up to 5.17
@pytest.mark.parametrize("name", FAMILIES_THAT_TAKE)
def test_embeddings_say_what_their_ids_say(checkpoints: Checkpoints, name: str) -> None:
    engine, rows = load(checkpoints, name), embedded(checkpoints, name)
    assert engine.decisions.embeds_width == len(rows[1]) // 4
    wanted = serve(engine, CROWD, [b""] * len(PROMPTS), GREEDY)
    got = serve(engine, CHUNKS, rows, GREEDY)
    assert [answer.tokens for answer in got] == [answer.tokens for answer in wanted]
    assert [told.logprob for told in got[0].logprobs] == pytest.approx(
        [told.logprob for told in wanted[0].logprobs], abs=1e-4
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", ["llama", "gemma2", "opt"])
def test_beside_prompts_of_ids_and_in_any_schedule(checkpoints: Checkpoints, name: str, schedule: Schedule) -> None:
    engine, rows = load(checkpoints, name), embedded(checkpoints, name)
    drawn = SamplingParams(temperature=0.9, seed=3, max_tokens=12, ignore_eos=True)
    for params in (GREEDY, drawn):
        wanted = serve(engine, CROWD, [b""] * len(PROMPTS), params)
        got = serve(engine, schedule, [rows[0], b"", rows[2], b""], params)
        assert [answer.tokens for answer in got] == [answer.tokens for answer in wanted]


def test_beside_a_prompt_that_is_scored(checkpoints: Checkpoints) -> None:
    engine, rows = load(checkpoints, "llama"), embedded(checkpoints, "llama")
    wanted = serve(engine, CROWD, [b""] * len(PROMPTS), GREEDY)
    scored = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, prompt_logprobs=0)
    got = serve(engine, CHUNKS, [b"", b"", b"", rows[3]], scored)
    assert [answer.tokens for answer in got] == [answer.tokens for answer in wanted]


@pytest.mark.parametrize("name", LOOK_UP_MORE)
def test_a_model_that_needs_the_ids_refuses_the_switch(checkpoints: Checkpoints, name: str) -> None:
    with pytest.raises(ModelNotSupported, match="embeddings"):
        load(checkpoints, name)


def test_cached_blocks_are_shared_between_equal_embeddings_only(checkpoints: Checkpoints) -> None:
    engine, rows = load(checkpoints, "llama"), embedded(checkpoints, "llama")
    own = Engine(engine.runner, engine.decisions)
    other = (np.frombuffer(rows[0], "<f4") * 2).tobytes()
    cached = []
    for number, given in enumerate((b"", rows[0], rows[0], other, b"")):
        request = GenerateRequest(token_ids=[0] * len(PROMPTS[0]), sampling_params=GREEDY)
        own.add(Submission.of(number, RenderedRequest.of(request, Rendered(embeds=given)) if given else request))
        emissions = []
        while own.has_work:
            emissions += own.step()
        cached.append(emissions[0].cached_tokens)
    assert cached == [0, 0, 8, 0, 8]
