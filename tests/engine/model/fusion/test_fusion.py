"""Fused modules compute what those they replace do; what computes something else is left, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.families import FAMILIES, Family, build, family_named
from tests.support.fused import fused_and_plain, probe_logits
from torch import Tensor, nn

from quire_engine.model.fusion import PASSES
from quire_engine.model.fusion.passes import stacked

LOGITS = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""Relative distance of a whole model's logits, fused and not: sums in another order, and values rounded once less."""

EVERYTHING = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3", "seed_oss"]
"""Families of which nothing is left."""

LEFT = [
    ("olmo", "attention blocks", "OlmoAttention computes another"),  # clips queries, keys and values
    ("granite", "residual sums", "GraniteDecoderLayer computes another output"),  # multiplies what it adds
    ("cohere", "norms", "CohereLayerNorm computes another output"),  # takes the mean off
    ("helium", "attention blocks", "HeliumAttention computes another q"),  # rotates neighbours
    ("hunyuan_v1_dense", "attention blocks", "HunYuanDenseV1Attention computes another q"),  # norms what was rotated
]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # GPT-BigCode up to 5.17
@pytest.mark.parametrize("dtype", LOGITS, ids=str)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_fused_model_gives_the_same_logits(family: Family, dtype: torch.dtype) -> None:
    model, plain, _ = fused_and_plain(family, dtype)
    got, wanted = probe_logits(model), probe_logits(plain)
    distances = (got - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    # In a mixture of experts rounding may send a row to another expert, so in bfloat16 half of the rows must be near.
    assert float(distances.max() if dtype == torch.float32 else distances.median()) < LOGITS[dtype]


@pytest.mark.parametrize("name", EVERYTHING)
def test_all_of_these_families_is_fused(name: str) -> None:
    _, _, report = fused_and_plain(family_named(name))
    assert {line.what for line in report} == {"norms", "gated MLPs", "attention blocks", "residual sums"}
    assert [line.reasons for line in report] == [()] * 4
    assert all(line.fused == line.found > 0 for line in report)


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "deepseek_v3"])
def test_routed_experts_are_fused(name: str) -> None:
    _, _, report = fused_and_plain(family_named(name))
    (experts,) = (line for line in report if line.what == "routed experts")
    assert experts.fused == experts.found > 0


@pytest.mark.parametrize(("name", "what", "reason"), LEFT)
def test_what_computes_something_else_is_left_and_said_so(name: str, what: str, reason: str) -> None:
    _, _, report = fused_and_plain(family_named(name))
    (line,) = (line for line in report if line.what == what)
    assert line.fused < line.found
    assert reason in line.reasons[0]


def tampered(name: str, change: Callable[[nn.Module], None]) -> tuple[str, ...]:
    """Why attention blocks are left when every attention of a Llama is changed beforehand."""
    _, _, report = fused_and_plain(family_named("llama"), change=lambda model: [change(m) for m in attentions(model)])
    (line,) = (line for line in report if line.what == name)
    assert line.fused == 0
    return line.reasons


def attentions(model: nn.Module) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith("self_attn")]


def wrapped(module: nn.Module, output: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Let a module do something more with its output."""
    forward = module.forward
    module.forward = lambda *args, **keywords: output(forward(*args, **keywords), keywords)


def test_a_clip_that_only_loud_inputs_reach_is_noticed() -> None:
    def clip(attention: nn.Module) -> None:
        wrapped(attention.q_proj, lambda q, _: q.clamp(-20, 20))

    (reason,) = tampered("attention blocks", clip)
    assert "another q" in reason


def test_a_factor_at_far_positions_only_is_noticed() -> None:
    def slow_down(attention: nn.Module) -> None:
        def scaled(result: tuple[Tensor, None], keywords: dict[str, Any]) -> tuple[Tensor, None]:
            return result[0] * (1 + (keywords["position_ids"][0, :, None] > 50)), None

        wrapped(attention, scaled)

    (reason,) = tampered("attention blocks", slow_down)
    assert "another output" in reason


def test_another_epsilon_is_noticed() -> None:
    def change(model: nn.Module) -> None:
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):
                module.forward = lambda x, own=module: own.weight * torch.rms_norm(x, x.shape[-1:], eps=2e-6)

    _, _, report = fused_and_plain(family_named("llama"), change=change)
    assert report[0].what == "norms"
    assert report[0].fused == 0
    assert "another output" in report[0].reasons[0]


def test_layers_that_differ_are_proven_one_by_one() -> None:
    def change(model: nn.Module) -> None:
        last = attentions(model)[-1]
        last.factor = 2.0
        wrapped(last, lambda result, _: (result[0] * last.factor, None))

    _, _, report = fused_and_plain(family_named("llama"), change=change)
    blocks = report[2]
    assert (blocks.what, blocks.fused, blocks.found) == ("attention blocks", 2, 3)


def test_a_layer_that_differs_unseen_undoes_it_all() -> None:
    def change(model: nn.Module) -> None:  # no attribute tells the last layer's attention from the others'
        last = attentions(model)[-1]
        last.register_forward_hook(lambda *_: (_[2][0] * 2, None))

    model, plain, report = fused_and_plain(family_named("llama"), change=change)
    assert [line.fused for line in report] == [0] * 4
    assert "whole model" in report[0].reasons[0]
    assert torch.equal(probe_logits(model), probe_logits(plain))


def test_nothing_lies_in_memory_twice() -> None:
    def stored(model: nn.Module) -> int:
        storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
        return sum(storages.values())

    for name in ("llama", "qwen3", "phi3"):
        model, plain, _ = fused_and_plain(family_named(name))
        assert stored(model) == stored(plain)


def test_parts_of_a_joined_projection_go_on_working() -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(8, width) for width in (4, 6, 2)]
    x = torch.randn(3, 8)
    wanted = torch.cat([part(x) for part in parts], -1)
    whole = stacked(*parts)
    again = stacked(*parts)
    assert again.weight.data_ptr() == whole.weight.data_ptr() == parts[0].weight.data_ptr()
    torch.testing.assert_close(whole(x), wanted)
    assert torch.equal(torch.cat([part(x) for part in parts], -1), wanted)


def test_parts_that_are_no_one_product_are_refused() -> None:
    with pytest.raises(ValueError, match="width, dtype or bias"):
        stacked(nn.Linear(8, 4), nn.Linear(8, 4, bias=False))


def test_every_pass_finds_something_in_some_family() -> None:
    models = [build(family_named(name)) for name in ("llama", "mixtral")]
    for each in PASSES:
        assert any(each.matches(module) for model in models for module in model.modules()), each.name
