"""Beam search finds what transformers' own finds, whatever the schedule.

The two count the length of an answer differently (with its prompt, or without), and do not consider the same ends. They
agree where all answers have one length; where ends count, the plain search over transformers' log-probabilities is the
measure.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.support.families import Checkpoints, family_named
from tests.support.plain_beams import Likeliest, PlainAnswer, plain_beam_search
from tests.support.requests import beam_request
from tests.support.schedules import SCHEDULES, Schedule, finish, roomy_config
from transformers import AutoModelForCausalLM, PreTrainedModel

from quire_engine.engine import Engine
from quire_engine.sequence import Rendered, RenderedRequest, Submission
from quire_protocol import GenerateRequest

FAMILIES = ["llama", "mistral", "qwen3", "gemma2", "deepseek_v3", "gpt2", "gpt_oss"]
PROMPTS = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [80], [3] * 17]
WIDTH, NEW_TOKENS = 4, 10

Found = list[tuple[list[int], float]]
"""Answers, best first, and their log-probabilities."""


def own_model(checkpoints: Checkpoints, name: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(checkpoints.path(family_named(name)), attn_implementation="eager")


def roomy(checkpoints: Checkpoints, name: str, **config: bool) -> Engine:
    return Engine.load(roomy_config(model=str(checkpoints.path(family_named(name))), **config))


def generate(model: PreTrainedModel, prompt: list[int]) -> Found:
    """transformers' own beams; without a penalty, a beam's score is its log-probability."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        num_beams=WIDTH,
        num_return_sequences=WIDTH,
        length_penalty=0.0,
        eos_token_id=None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    return list(zip(out.sequences[:, len(prompt) :].tolist(), out.sequences_scores.tolist(), strict=True))


def likeliest_by(model: PreTrainedModel) -> Likeliest:
    @torch.inference_mode()
    def likeliest(context: Sequence[int], count: int) -> list[tuple[int, float]]:
        top = model(input_ids=torch.tensor([context])).logits[0, -1].float().log_softmax(-1).topk(count)
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

    return likeliest


def search(roomy: Engine, schedule: Schedule, requests: list[GenerateRequest]) -> list[Found]:
    """What the engine finds for each request under a schedule."""
    engine = schedule.engine(roomy)
    for turn in range(schedule.repeats):
        first = turn * len(requests)
        for number, request in enumerate(requests, start=first):
            engine.add(Submission.of(number, request))
        answers = finish(engine)
    handles = range(first, first + len(requests))
    return [
        [(own.tokens, sum(told.logprob for told in own.logprobs)) for own in (answers[handle, i] for i in range(WIDTH))]
        for handle in handles
    ]


def assert_same(found: Found, expected: Found) -> None:
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    assert [logprob for _, logprob in found] == pytest.approx([logprob for _, logprob in expected], abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_beams_are_those_of_transformers_under_every_schedule(checkpoints: Checkpoints, name: str) -> None:
    model, engine = own_model(checkpoints, name), roomy(checkpoints, name)
    wanted = [generate(model, prompt) for prompt in PROMPTS]
    requests = [beam_request(prompt, n=WIDTH, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=0) for prompt in PROMPTS]
    for schedule in SCHEDULES:
        for found, expected in zip(search(engine, schedule, requests), wanted, strict=True):
            assert_same(found, expected)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 3.0])
def test_ends_are_found_wherever_they_pay(checkpoints: Checkpoints, length_penalty: float) -> None:
    model, engine = own_model(checkpoints, "llama"), roomy(checkpoints, "llama")
    ends, reasons = tuple(range(0, 97, 6)), set()
    for prompt in PROMPTS:
        asked = beam_request(
            prompt,
            n=WIDTH,
            max_tokens=NEW_TOKENS,
            ignore_eos=True,
            stop_token_ids=ends,
            length_penalty=length_penalty,
            logprobs=0,
        )
        expected: list[PlainAnswer] = plain_beam_search(
            likeliest_by(model), prompt, width=WIDTH, max_tokens=NEW_TOKENS, length_penalty=length_penalty, ends=ends
        )
        (found,) = search(engine, SCHEDULES[0], [asked])
        assert_same(found, [(list(answer.tokens), answer.logprob) for answer in expected])
        reasons |= {answer.finish_reason for answer in expected}
    assert "stop" in reasons


def test_a_prompt_of_embeddings_is_searched_like_its_ids(checkpoints: Checkpoints) -> None:
    embed = own_model(checkpoints, "llama").get_input_embeddings()
    engine = roomy(checkpoints, "llama", enable_prompt_embeds=True)
    of_ids, of_rows = [], []
    for prompt in PROMPTS:
        asked = beam_request(prompt, n=WIDTH, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=0)
        rows = embed(torch.tensor(prompt)).detach().numpy().astype("<f4").tobytes()
        of_ids.append(asked)
        of_rows.append(
            RenderedRequest.of(asked.model_copy(update={"token_ids": [0] * len(prompt)}), Rendered(embeds=rows))
        )
    for schedule in SCHEDULES:
        for found, expected in zip(search(engine, schedule, of_rows), search(engine, schedule, of_ids), strict=True):
            assert_same(found, expected)
