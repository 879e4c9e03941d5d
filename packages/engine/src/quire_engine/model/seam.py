"""The one attention function that transformers' models call under Quire. It knows layers, not sequences.

Everything a pass needs beyond ids and positions travels by keyword: `model(..., quire=Pass(...))` reaches every layer's
attention call unchanged. No mask is registered for this attention, so transformers builds none; and with
`use_cache=False` keys and values live in Quire's cache alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from quire_engine.attention.base import AttentionBackend
from quire_engine.kv.cache import KVCache
from quire_kernels import store_kv

ATTENTION = "quire"


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass hands to every attention layer."""

    cache: KVCache
    slots: Tensor
    """[T] int64: where each row's key and value go."""
    attention: AttentionBackend
    shared: dict[int, Any] = field(default_factory=dict)
    """What one layer worked out and the others need too, by the id of what it was made from; gone with the pass."""


def quire_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    quire: Pass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Store this layer's new keys and values, then attend over the paged ones.

    query [1, Hq, T, D]; key [1, Hkv, T, D]; value [1, Hkv, T, Dv] -> [1, T, Hq, Dv]. The other keywords that models
    pass say nothing about inference; `model/proof.py` refuses a model for which that is not so.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, H, D]
    out = store_and_attend(
        quire,
        layer,
        q,
        k,
        v,
        scale=q.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window or 0,
        softcap=softcap or 0.0,
        sinks=s_aux,
    )
    return out[None], None


def store_and_attend(
    quire: Pass,
    layer: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    """One layer's part of a pass: q [T, Hq, D], k [T, Hkv, D], v [T, Hkv, Dv] -> [T, Hq, Dv]."""
    keys, values = quire.cache.keys[layer], quire.cache.values[layer]
    store_kv(k, v, keys, values, quire.slots)
    return quire.attention.attend(q, keys, values, scale=scale, window=window, softcap=softcap, sinks=sinks)


def register() -> None:
    """Make the attention known to transformers under the name `ATTENTION`."""
    from transformers import AttentionInterface  # slow to import, and a model that is computed natively needs none

    AttentionInterface.register(ATTENTION, quire_attention)
