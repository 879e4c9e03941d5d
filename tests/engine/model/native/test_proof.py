"""A description is believed where it computes what transformers does, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import FAMILIES, Checkpoints, family_named
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from quire_engine.attention.paged import PagedBackend
from quire_engine.model.forward import ModelForward
from quire_engine.model.native.describe import NotDescribed, describe, fitted, layer_shapes
from quire_engine.model.native.families import FAMILIES as DESCRIBED
from quire_engine.model.native.forward import NativeForward
from quire_engine.model.native.load import load_decoder
from quire_engine.model.native.probe import FARTHEST, Probe, parts_of
from quire_engine.model.native.proof import Cut, prove_description
from quire_engine.model.native.rope import rope_of
from quire_engine.model.native.weights import Checkpoint
from quire_engine.model.proof import TOLERANCE, prove
from quire_kernels.decoder import Description, Layer, is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="the CPU library was not built")

CONTEXT = 256


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("families"))


def read(folder: Path) -> tuple[PreTrainedConfig, Description]:
    config = AutoConfig.from_pretrained(folder)
    return config, describe(config.to_dict(), rope_of(config))


def in_layers(**changes: Any) -> Callable[[Description], Description]:
    return lambda description: replace(
        description, layers=tuple(replace(layer, **changes) for layer in description.layers)
    )


def with_norm(name: str, **changes: Any) -> Callable[[Description], Description]:
    def other(layer: Layer) -> Layer:
        return replace(layer, **{name: replace(getattr(layer, name), **changes)})

    return lambda description: replace(description, layers=tuple(map(other, description.layers)))


def turned(**changes: Any) -> Callable[[Description], Description]:
    return lambda description: replace(
        description, rotations=tuple(replace(each, **changes) for each in description.rotations)
    )


def whole(**changes: Any) -> Callable[[Description], Description]:
    return lambda description: replace(description, **changes)


WRONG: dict[str, tuple[str, Callable[[Description], Description]]] = {
    "no window": ("mistral", in_layers(window=0)),
    "a window one token longer": ("mistral", in_layers(window=7)),
    "no softcap": ("gemma2", in_layers(softcap=0.0)),
    "no cap on logits": ("gemma2", whole(logits_softcap=0.0)),
    "no norm behind": ("gemma2", in_layers(after_mlp=None)),
    "another activation": ("gemma2", in_layers(activation="gelu")),
    "another epsilon": ("qwen3", with_norm("before_mlp", eps=1e-2)),
    "no norm of keys": ("qwen3", in_layers(k_norm=None)),
    "a norm after the rotation": ("qwen3", in_layers(norm_after_rotation=True)),
    "another scale of scores": ("granite", in_layers(scale=0.5)),
    "no multiplier": ("granite", in_layers(residual_multiplier=1.0)),
    "no scale of embeddings": ("granite", whole(embedding_scale=1.0)),
    "no scale of given embeddings": ("granite", whole(given_scale=1.0)),
    "no scale of logits": ("granite", whole(logits_scale=1.0)),
    "pairs of another kind": ("ernie4_5", turned(interleaved=False)),
    "frequencies without stretching": ("llama-rope-yarn", turned(scale=1.0)),
    "one after the other": ("phi", in_layers(parallel=False)),
    "no clipping": ("olmo", in_layers(clip=0.0)),
}


@pytest.mark.parametrize("name", [str(family) for family in FAMILIES if family.model_type in DESCRIBED])
def test_what_is_described_is_proven(checkpoints: Checkpoints, name: str) -> None:
    folder = checkpoints.path(family_named(name))
    config, description = read(folder)
    assert prove_description(description, config, Checkpoint(folder), context=CONTEXT)


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_description_is_noticed(
    checkpoints: Checkpoints, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, change = WRONG[mistake]
    folder = checkpoints.path(family_named(name))
    config, description = read(folder)
    wrong = change(description)
    monkeypatch.setattr("quire_engine.model.native.proof.describe", lambda *_: replace(wrong, layers=cut.layers))
    cut = replace(wrong, layers=tuple(dict.fromkeys(wrong.layers)))
    with pytest.raises(NotDescribed, match="other logits than transformers"):
        prove_description(wrong, config, Checkpoint(folder), context=CONTEXT)


def test_one_layer_of_each_kind_is_proven(checkpoints: Checkpoints) -> None:
    config, description = read(checkpoints.path(family_named("gemma3_text")))
    cut = Cut.of(description, config)
    assert cut.kept == (0, 1)
    assert cut.config.layer_types == ["sliding_attention", "full_attention"]
    assert cut.original("model.layers.1.mlp.up_proj.weight") == "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("window", [0, 6, 4096])
@pytest.mark.parametrize("context", [64, 2048, 1 << 20])
def test_the_probe_goes_to_the_end_of_the_context_and_past_the_window(context: int, window: int) -> None:
    _, (far, *_) = parts_of(context=context, window=window)
    stop = far.start + far.length
    assert min(context, FARTHEST) - 32 < stop <= min(context, FARTHEST)
    beyond = [block for block in far.blocks[: -(-window // 16) * -1 - 1] if block in (0, 1)]
    assert beyond or window + 32 > stop


@pytest.mark.parametrize("name", [str(family) for family in FAMILIES if family.model_type in DESCRIBED])
def test_logits_in_bfloat16_stay_within_rounding(checkpoints: Checkpoints, name: str) -> None:
    folder = checkpoints.path(family_named(name))
    _, description = read(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    prove(model, PagedBackend, architecture=name, context=CONTEXT)
    decoder, _ = load_decoder(folder, description, dtype="bfloat16", max_rows=128, progress=False)
    probe = Probe(
        layer_shapes(description),
        hidden=description.hidden,
        vocab=description.vocab,
        context=CONTEXT,
        window=6,
        embeds=True,
    )
    wanted, got = (probe.run(each, torch.bfloat16) for each in (ModelForward(model), NativeForward(decoder)))
    distances = (got - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert distances.median() < TOLERANCE[torch.bfloat16]
    assert distances.max() < 3 * TOLERANCE[torch.bfloat16]


def test_a_scale_inside_the_embedding_is_rounded_like_it(checkpoints: Checkpoints) -> None:
    _, gemma = read(checkpoints.path(family_named("gemma2")))
    _, granite = read(checkpoints.path(family_named("granite")))
    assert fitted(gemma, torch.bfloat16).embedding_scale == 5.65625  # sqrt(32) = 5.657
    assert fitted(granite, torch.bfloat16) == granite
