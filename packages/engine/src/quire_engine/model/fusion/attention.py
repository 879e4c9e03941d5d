"""Attention blocks: one product for queries, keys and values, then norm, rotation and store in place.

Scale, window, softcap and sinks are those of the call that the original made: a replacement makes the same one by
construction. What else an attention does to its inputs, clipping or position-dependent factors say, is not copied but
noticed: the proof compares queries, keys and values at loud volumes and at positions up to the end of the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quire_engine.model.fusion.norms import RMSNorm, looks_like_a_norm
from quire_engine.model.fusion.norms import candidates as as_norms
from quire_engine.model.fusion.passes import AttentionCall, FusionPass, Replacement, Visit, stacked
from quire_engine.model.seam import Pass, store_and_attend
from quire_kernels import rotary

OUTPUTS = ("o_proj", "dense", "out_proj")
"""Names of the projection behind attention."""


def turns(quire: Pass, embeddings: tuple[Tensor, Tensor], *, repeated: bool) -> tuple[Tensor, Tensor]:
    """Cosines and sines [1, T, R] as `rotary` takes them: made once, shared by a pass's layers.

    `repeated`: their second half says what the first one does.
    """
    cos, sin = embeddings
    if id(cos) not in quire.shared:
        half = cos.shape[-1] // 2 if repeated else cos.shape[-1]
        made = (cos[0, :, :half].float().contiguous(), sin[0, :, :half].float().contiguous())
        quire.shared[id(cos)] = (cos, made)  # with what it was made from, whose id is no other's as long as it lives
    shared: tuple[Tensor, Tensor] = quire.shared[id(cos)][1]
    return shared


@dataclass(frozen=True, slots=True)
class Heads:
    """What is done to queries and keys before attention."""

    norms: Literal["none", "whole", "each"] = "none"
    """RMS norms over all heads together, before they are parted (OLMo-2), or over each one (Qwen3, Gemma 3)."""
    turns: Literal["no", "repeated", "once"] = "repeated"
    """Whether they are rotated, and whether cosines and sines come twice, for each half of a head (all but GPT-OSS)."""


class AttentionBlock(Replacement):
    """`output(attend(rotate(norm(qkv(x)))))`, keys and values stored on the way."""

    def __init__(
        self,
        original: nn.Module,
        qkv: nn.Linear,
        output: nn.Linear,
        norms: tuple[RMSNorm, RMSNorm] | None,
        call: AttentionCall,
        heads: Heads,
    ) -> None:
        super().__init__(original)
        self.qkv_proj = qkv
        self.o_proj = output
        self.q_norm = norms[0] if norms else None
        self.k_norm = norms[1] if norms else None
        self.layer_idx = call.layer
        self.scale, self.window, self.softcap = call.scale, call.window, call.softcap
        self.sinks = next((own for own in original.parameters() if _is_same(own, call.sinks)), None)
        self._sizes = [heads.shape[1] * heads.shape[2] for heads in (call.q, call.k, call.v)]
        self._head_size = call.q.shape[2]
        self._heads = heads

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor] | None = None, *_: Any, **keywords: Any
    ) -> tuple[Tensor, None]:
        """[1, T, H] -> ([1, T, H], None)"""
        quire: Pass = keywords["quire"]
        q, k, v = torch.split(self.qkv_proj(hidden_states[0]), self._sizes, dim=-1)  # [T, heads * D]
        if self._heads.norms == "whole":
            q, k = self._normed(q, k)
        q, k, v = (rows.view(len(rows), -1, self._head_size) for rows in (q, k, v))  # [T, heads, D]
        if self._heads.turns == "no":
            q, k = self._normed(q, k) if self._heads.norms == "each" else (q, k)
        elif position_embeddings is not None:
            self._turn(q, k, *turns(quire, position_embeddings, repeated=self._heads.turns == "repeated"))
        out = store_and_attend(
            quire,
            self.layer_idx,
            q,
            k,
            v,
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
            sinks=self.sinks,
        )
        answer: Tensor = self.o_proj(out.flatten(1))
        return answer[None], None

    def _turn(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotate in place; norm each head first where that is so."""
        q_norm, k_norm = self.q_norm, self.k_norm
        if self._heads.norms != "each" or q_norm is None or k_norm is None:
            rotary(q, k, cos, sin)
            return
        weights = {"q_weight": q_norm.weight, "k_weight": k_norm.weight}
        rotary(q, k, cos, sin, **weights, eps=q_norm.eps, offset=q_norm.offset)

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        assert self.q_norm is not None, "its heads have norms"
        assert self.k_norm is not None, "its heads have norms"
        return self.q_norm(q), self.k_norm(k)


def looks_like_attention(module: nn.Module) -> bool:
    """Projections of queries, keys and values, or one of all three; one of the output; and a layer number."""
    linear = {name for name, child in module.named_children() if type(child) is nn.Linear}
    has_input = {"q_proj", "k_proj", "v_proj"} <= linear or "qkv_proj" in linear
    return has_input and not linear.isdisjoint(OUTPUTS) and hasattr(module, "layer_idx")


def candidates(module: nn.Module, visit: Visit) -> Iterator[AttentionBlock]:
    """With the norms that there are, over each head or over all of them; with rotation and without."""
    if len(visit.calls) != 1 or visit.calls[0].q.shape[2] != visit.calls[0].v.shape[2]:
        return
    (call,) = visit.calls
    parts = dict(module.named_children())
    qkv = parts.get("qkv_proj") or stacked(*(_linear(parts[name]) for name in ("q_proj", "k_proj", "v_proj")))
    output = next(parts[name] for name in OUTPUTS if name in parts)
    for norms in _norms(parts.get("q_norm"), parts.get("k_norm")):
        for heads in _treatments(norms, call):
            yield AttentionBlock(module, _linear(qkv), _linear(output), norms, call, heads)


def _norms(q_norm: nn.Module | None, k_norm: nn.Module | None) -> Iterator[tuple[RMSNorm, RMSNorm] | None]:
    """What the norms of queries and keys may be, fused already or not; None where there are none."""
    if q_norm is None and k_norm is None:
        yield None
    elif isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm):
        yield (q_norm, k_norm)
    elif q_norm is not None and k_norm is not None and looks_like_a_norm(q_norm) and looks_like_a_norm(k_norm):
        yield from zip(as_norms(q_norm), as_norms(k_norm), strict=True)


def _treatments(norms: tuple[RMSNorm, RMSNorm] | None, call: AttentionCall) -> Iterator[Heads]:
    """What may be done to the heads; the likeliest first."""
    if norms is None:
        yield from (Heads(), Heads(turns="no"), Heads(turns="once"))
    elif _are_alike(*norms):
        over: Literal["whole", "each"] = "each" if len(norms[0].weight) == call.q.shape[2] else "whole"
        yield from (Heads(over), Heads(over, turns="no"))


def _are_alike(one: RMSNorm, other: RMSNorm) -> bool:
    return (one.eps, one.offset) == (other.eps, other.offset)


def _is_same(parameter: nn.Parameter, sinks: Tensor | None) -> bool:
    return sinks is not None and parameter.data_ptr() == sinks.data_ptr() and parameter.shape == sinks.shape


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


# Quiet too, for the epsilons of the norms inside.
ATTENTION_BLOCKS = FusionPass(
    "attention blocks", looks_like_attention, candidates, volumes=(1.0, 32.0, 1e-3), pays_on_cpu=True
)
