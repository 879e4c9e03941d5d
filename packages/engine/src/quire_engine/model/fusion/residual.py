"""Decoder layers: the sum with the residual stream goes into the norm that follows. It knows names, no family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from quire_engine.model.fusion.norms import RMSNorm
from quire_engine.model.fusion.passes import FusionPass, Replacement, Visit
from quire_kernels import add_rms_norm

PRE_NORM = ("input_layernorm", "post_attention_layernorm")
"""Norms of a layer that norms what goes into attention and into its MLP (Llama)."""
SANDWICH = (*PRE_NORM, "pre_feedforward_layernorm", "post_feedforward_layernorm")
"""Norms of a layer that norms what comes out of them too (Gemma 2)."""
MLPS = ("mlp", "feed_forward", "block_sparse_moe")


class FusedLayer(Replacement):
    """A decoder layer whose attention output is added to the residual stream within the next norm."""

    self_attn: nn.Module
    input_layernorm: RMSNorm
    post_attention_layernorm: RMSNorm
    pre_feedforward_layernorm: RMSNorm
    post_feedforward_layernorm: RMSNorm

    def __init__(self, original: nn.Module, mlp: str) -> None:
        super().__init__(original)
        for name, child in original.named_children():
            self.add_module(name, child)
        self._mlp = mlp
        self._is_sandwich = hasattr(original, SANDWICH[-1])

    def forward(self, hidden_states: Tensor, **keywords: Any) -> Tensor:
        """[1, T, H] -> [1, T, H]; the input is overwritten."""
        delta: Tensor = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **keywords)[0]
        norm = self.post_attention_layernorm
        if self._is_sandwich:
            delta, norm = norm(delta), self.pre_feedforward_layernorm
        normed = add_rms_norm(delta[0], hidden_states[0], norm.weight, eps=norm.eps, offset=norm.offset)
        answer = getattr(self, self._mlp)(normed[None])
        delta = answer if isinstance(answer, Tensor) else answer[0]  # some give their router's scores too
        if self._is_sandwich:
            delta = self.post_feedforward_layernorm(delta)
        return hidden_states.add_(delta)


def looks_like_a_layer(module: nn.Module) -> bool:
    """Attention, an MLP, and the norms of one of the two kinds, which are ours by now."""
    children = dict(module.named_children())
    norms = {name for name, child in children.items() if name in SANDWICH}
    return "self_attn" in children and any(name in children for name in MLPS) and norms in ({*PRE_NORM}, {*SANDWICH})


def candidates(module: nn.Module, visit: Visit) -> Iterator[FusedLayer]:
    """The one that there is, if its norms were fused."""
    children = dict(module.named_children())
    if all(isinstance(child, RMSNorm) for name, child in children.items() if name in SANDWICH):
        yield FusedLayer(module, next(name for name in MLPS if name in children))


RESIDUAL_ADDS = FusionPass("residual sums", looks_like_a_layer, candidates, volumes=(1.0, 32.0), pays_on_cpu=True)
