"""What a described decoder computes, in plain torch and float32: one sequence, no cache, nothing clever."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, relu, silu

from quire_kernels.decoder.description import Activation, Description, Layer, Norm, Rotation, WeightSource


def reference(description: Description, weights: WeightSource, ids: Tensor, given: Tensor | None = None) -> Tensor:
    """Logits [T, V] float32 of one sequence with ids [T] at positions 0, 1, …; `given` [G, hidden] replaces the
    embeddings of its first G tokens."""
    x = weights("embedding.weight")[ids].float() * description.embedding_scale
    if given is not None:
        x[: len(given)] = given.float() * description.given_scale
    for number, layer in enumerate(description.layers):
        x = _layer(description, layer, _inside(weights, f"layers.{number}."), x)
    x = _norm(description.final_norm, "final_norm", weights, x)
    head = weights("embedding.weight" if description.tied else "head.weight").float()
    logits = linear(x, head, weights("head.bias").float() if description.head_bias else None)
    return _capped(logits * description.logits_scale, description.logits_softcap)


def _inside(weights: WeightSource, prefix: str) -> WeightSource:
    return lambda name: weights(prefix + name).float()


def _layer(description: Description, layer: Layer, weights: WeightSource, x: Tensor) -> Tensor:
    def product(name: str, row: Tensor) -> Tensor:
        has_bias = layer.products(description.hidden)[name][2]
        return linear(row, weights(f"{name}.weight"), weights(f"{name}.bias") if has_bias else None)

    entered = _norm(layer.before_attention, "before_attention", weights, x)
    attended = product("output", _attention(description, layer, weights, product("qkv", entered)))
    added = _norm(layer.after_attention, "after_attention", weights, attended) * layer.residual_multiplier
    if not layer.parallel:
        x, added = x + added, torch.zeros_like(x)
        entered = _norm(layer.before_mlp, "before_mlp", weights, x)
    inner = product("up", entered)
    if layer.gated:
        gate, up = inner.chunk(2, dim=-1)
        inner = _activated(gate, layer.activation) * up
    else:
        inner = _activated(inner, layer.activation)
    mlp = _norm(layer.after_mlp, "after_mlp", weights, product("down", inner)) * layer.residual_multiplier
    return x + added + mlp


def _attention(description: Description, layer: Layer, weights: WeightSource, projected: Tensor) -> Tensor:
    """[T, q_heads * value_size]"""
    if layer.clip:
        projected = projected.clamp(-layer.clip, layer.clip)
    sizes = (layer.q_heads * layer.key_size, layer.kv_heads * layer.key_size, layer.kv_heads * layer.value_size)
    q, k, v = torch.split(projected, list(sizes), dim=-1)
    if not layer.norm_after_rotation:
        q, k = _norm(layer.q_norm, "q_norm", weights, q), _norm(layer.k_norm, "k_norm", weights, k)
    if layer.rotation is not None:
        rotation = description.rotations[layer.rotation]
        q, k = _rotated(q, layer.key_size, rotation), _rotated(k, layer.key_size, rotation)
    if layer.norm_after_rotation:
        q, k = _norm(layer.q_norm, "q_norm", weights, q), _norm(layer.k_norm, "k_norm", weights, k)
    group = layer.q_heads // layer.kv_heads
    q = q.reshape(len(q), layer.q_heads, -1)
    k, v = (each.reshape(len(each), layer.kv_heads, -1).repeat_interleave(group, dim=1) for each in (k, v))
    scores = _capped(torch.einsum("qhd,khd->hqk", q, k) * layer.scale, layer.softcap)
    age = torch.arange(len(q))[:, None] - torch.arange(len(q))
    hidden = (age < 0) | (age >= (layer.window or len(q)))
    scores = scores.masked_fill(hidden, float("-inf"))
    if layer.sinks:
        sinks = weights("sinks").view(-1, 1, 1).expand(-1, len(q), 1)
        scores = torch.cat([scores, sinks], dim=-1)
    shares = scores.softmax(-1)[..., : len(q)]
    return torch.einsum("hqk,khd->qhd", shares, v).flatten(1)


def _norm(norm: Norm | None, name: str, weights: WeightSource, x: Tensor) -> Tensor:
    if norm is None:
        return x
    parts = x.reshape(len(x), -1, norm.size)
    if norm.kind == "layer":
        parts = parts - parts.mean(-1, keepdim=True)
    parts = parts * torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + norm.eps)
    result = parts.flatten(1)
    if norm.weight:
        result = result * (_whole_row(weights(f"{name}.weight"), result) + norm.offset)
    return result + _whole_row(weights(f"{name}.bias"), result) if norm.bias else result


def _whole_row(weight: Tensor, row: Tensor) -> Tensor:
    """A weight for one head serves all."""
    return weight.float().flatten().repeat(row.shape[-1] // weight.numel())


def _rotated(x: Tensor, size: int, rotation: Rotation) -> Tensor:
    heads = x.reshape(len(x), -1, size)
    pairs = len(rotation.frequencies)
    angles = torch.arange(len(x))[:, None].float() * torch.tensor(rotation.frequencies)
    cos, sin = angles.cos()[:, None] * rotation.scale, angles.sin()[:, None] * rotation.scale  # [T, 1, pairs]
    turned, rest = heads[..., : 2 * pairs], heads[..., 2 * pairs :]
    if rotation.interleaved:
        a, b = turned[..., ::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    return torch.cat([turned, rest], dim=-1).flatten(1)


def _activated(x: Tensor, activation: Activation) -> Tensor:
    if activation == "silu":
        return silu(x)
    if activation == "relu_squared":
        return relu(x).square()
    return gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def _capped(x: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(x / cap) if cap else x
