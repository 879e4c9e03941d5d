"""The equivalence tests can fail: an attention that drops a feature changes the tokens of families that have it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.support.families import Checkpoints, Family, family_named
from tests.support.schedules import ROOMY, answer, roomy_config
from torch import Tensor
from transformers import PreTrainedModel

from quire_engine.attention import AttentionBackend
from quire_engine.attention.paged import PagedBackend
from quire_engine.engine import Engine
from quire_engine.errors import ModelNotSupported
from quire_engine.model.forward import ModelForward
from quire_engine.model.load import load_model
from quire_engine.model.proof import prove
from quire_engine.model.spec import ModelSpec, read_spec
from quire_engine.runner.computed import ComputedModel
from quire_engine.runner.load import Assembly
from quire_protocol import SamplingParams

CPU = torch.device("cpu")
NEUTRAL = {"window": 0, "softcap": 0.0, "sinks": None, "scale": 1.0}
HAVE = {
    "window": ["mistral", "qwen2", "gemma2", "gemma3_text", "cohere2", "olmo3", "gpt_oss", "starcoder2"],
    "softcap": ["gemma2"],
    "sinks": ["gpt_oss"],
    "scale": ["granite", "granitemoe", "gemma2", "gemma3_text"],
}
CASES = [(feature, name) for feature, names in HAVE.items() for name in names]


def without(feature: str) -> type[AttentionBackend]:
    """The backend that is served with, deaf to one keyword."""

    class Deaf(PagedBackend):
        def attend(self, q: Tensor, keys: Tensor, values: Tensor, **keywords: Any) -> Tensor:
            return super().attend(q, keys, values, **{**keywords, feature: NEUTRAL[feature]})

    return Deaf


def load(checkpoints: Checkpoints, family: Family) -> tuple[PreTrainedModel, ModelSpec]:
    config = roomy_config(model=str(checkpoints.path(family)))
    spec = read_spec(checkpoints.path(family), config)
    model = load_model(spec, dtype="float32", device=CPU, trust_remote_code=False, progress=False)
    return model, spec


@pytest.mark.parametrize(("feature", "name"), CASES)
def test_dropping_a_feature_changes_tokens(checkpoints: Checkpoints, feature: str, name: str) -> None:
    family = family_named(name)
    whole = Engine.load(roomy_config(model=str(checkpoints.path(family))))
    model, spec = load(checkpoints, family)
    layers = prove(model, PagedBackend, architecture=name, context=64)
    computed = ComputedModel(spec, ModelForward(model), model.dtype, layers, model.num_parameters())
    runner = Assembly(computed, without(feature), CPU, "raw_logprobs").runner(
        blocks=whole.decisions.num_blocks,
        block_size=ROOMY["block_size"],
        seats=ROOMY["max_num_seqs"],
        max_model_len=ROOMY["max_model_len"],
    )
    prompts = [[5, 9, 11, 3, 7, 7, 2, 40, 41, 42], [3] * 17, [80], list(range(30, 50))]
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    requests = [(prompt, params) for prompt in prompts]
    got = answer(Engine(runner, whole.decisions), requests)
    assert [own.tokens for own in got] != [own.tokens for own in answer(whole, requests)]


@pytest.mark.parametrize(("feature", "name"), CASES)
def test_the_proof_at_load_notices_too(checkpoints: Checkpoints, feature: str, name: str) -> None:
    model, _ = load(checkpoints, family_named(name))
    with pytest.raises(ModelNotSupported, match="other logits"):
        prove(model, without(feature), architecture=name, context=64)
