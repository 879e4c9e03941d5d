"""The schedule never changes the answer: for every family, every schedule, what transformers' own generate says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from tests.support.families import FAMILIES, REFUSED, Checkpoints, Family, family_named
from tests.support.schedules import CHUNKS, SCHEDULES, roomy_config, serve
from transformers import AutoModelForCausalLM, PreTrainedModel

from quire_engine.engine import Engine
from quire_engine.errors import ModelNotSupported
from quire_engine.model.native.families import FAMILIES as DESCRIBED
from quire_kernels.decoder import is_available
from quire_protocol import SamplingParams

NEW_TOKENS = 12
SHARED = [5, 9, 11, 3, 7, 7, 2, 40]  # one block, for prefix hits
PROMPTS = [[*SHARED, 41, 42], [*SHARED, 41, 13, 14], [80], [3] * 17, [*SHARED, 1]]
GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=3)


def load(checkpoints: Checkpoints, family: Family, *, native: bool) -> Engine:
    engine = Engine.load(roomy_config(model=str(checkpoints.path(family)), native=native))
    assert ("native" in engine.decisions.compute) == native
    return engine


def ways(names: Iterable[str]) -> list[tuple[str, bool]]:
    """Each family computed by transformers' model, and natively where there is a description: (name, native)."""
    described = {str(family) for family in FAMILIES if family.model_type in DESCRIBED and is_available()}
    return [(name, native) for name in names for native in (False, True) if not native or name in described]


def own_model(checkpoints: Checkpoints, family: Family) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(checkpoints.path(family), attn_implementation="eager")


def generate(model: PreTrainedModel, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """transformers' own greedy tokens, and the log-probabilities [tokens, V] they were chosen by."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits).log_softmax(-1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # GPT-BigCode up to 5.17
@pytest.mark.parametrize(("name", "native"), ways(map(str, FAMILIES)))
def test_the_schedule_never_changes_the_answer(checkpoints: Checkpoints, name: str, native: bool) -> None:
    family = family_named(name)
    model = own_model(checkpoints, family)
    wanted = [generate(model, prompt) for prompt in PROMPTS]
    engine = load(checkpoints, family, native=native)
    for schedule in SCHEDULES:
        answers = serve(engine, schedule, [(prompt, GREEDY) for prompt in PROMPTS])
        assert [answer.tokens for answer in answers] == [tokens for tokens, _ in wanted], schedule
        for answer, (_, logprobs) in zip(answers, wanted, strict=True):
            for told, row in zip(answer.logprobs, logprobs, strict=True):
                top = row.topk(3)
                assert told.logprob == pytest.approx(float(row[told.token_id]), abs=1e-4)
                assert told.rank == 1
                assert told.top_logprobs == pytest.approx(top.values.tolist(), abs=1e-4)


@pytest.mark.parametrize(("name", "native"), ways(["llama", "gemma2", "granite", "cohere", "gpt2", "gpt_oss", "opt"]))
def test_prompt_logprobs_are_those_of_the_whole_prompt_in_one_pass(
    checkpoints: Checkpoints, name: str, native: bool
) -> None:
    family = family_named(name)
    model = own_model(checkpoints, family)
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True, prompt_logprobs=2)
    answers = serve(load(checkpoints, family, native=native), CHUNKS, [(prompt, params) for prompt in PROMPTS])
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        with torch.inference_mode():
            logprobs = model(input_ids=torch.tensor([prompt])).logits[0].log_softmax(-1)
        told = answer.prompt_logprobs
        assert [entry.token_id for entry in told] == prompt[1:]
        for entry, row in zip(told, logprobs[:-1], strict=True):
            assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-4)
            assert entry.rank == int((row > row[entry.token_id]).sum()) + 1
            assert entry.top_logprobs == pytest.approx(row.topk(2).values.tolist(), abs=1e-4)


@pytest.mark.parametrize(("family", "reason"), REFUSED, ids=lambda value: str(value).replace(" ", "-"))
def test_what_cannot_be_served_is_refused_with_the_reason(
    checkpoints: Checkpoints, family: Family, reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        load(checkpoints, family, native=False)
