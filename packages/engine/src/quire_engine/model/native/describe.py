"""From a model's configuration to the decoder's description, or the reason why there is none. It reads no weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from quire_engine.kv.cache import LayerShape
from quire_engine.model.native.families import FAMILIES, Config, Family
from quire_kernels.decoder import Activation, Description, Layer, Norm, Rotation

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu2": "relu_squared",
}
"""A configuration's name -> the decoder's."""

RopeOf = Callable[[str | None], tuple[tuple[float, ...], float]]
"""Frequencies and scale of a layer type's rotary embedding; None where all layers share one."""


class NotDescribed(Exception):
    """The description has no words for this model; the message says for what."""


def describe(config: Config, rope: RopeOf) -> Description:
    """The decoder that a configuration asks for. NotDescribed where it asks for more than there is."""
    family = family_of(config)
    kinds = _rotary_kinds(config)
    rotations = tuple(Rotation(*rope(each), interleaved=family.interleaved) for each in kinds)
    count = config["num_hidden_layers"]
    return Description(
        hidden=config["hidden_size"],
        vocab=config["vocab_size"],
        layers=tuple(_layer(family, config, number, kinds) for number in range(count)),
        rotations=rotations,
        final_norm=_norm(family, config, config["hidden_size"]),
        tied=bool(config.get("tie_word_embeddings")),
        head_bias=family.head_bias,
        embedding_scale=family.embedding_scale(config),
        given_scale=family.embedding_scale(config) if family.scales_given else 1.0,
        logits_scale=family.logits_scale(config),
        logits_softcap=_number(config, family.logits_softcap, 0.0),
    )


def family_of(config: Config) -> Family:
    """The entry of a configuration's model type. NotDescribed where there is none."""
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise NotDescribed(f"there is no description of model type {kind!r}")
    return FAMILIES[kind]


def fitted(description: Description, dtype: torch.dtype) -> Description:
    """As it is computed in this type: a scale that belongs to the embedding itself is stored in the same type."""
    if description.given_scale != 1.0:
        return description
    return replace(description, embedding_scale=float(torch.tensor(description.embedding_scale, dtype=dtype)))


def layer_shapes(description: Description) -> tuple[LayerShape, ...]:
    """What each layer caches for a token."""
    return tuple(LayerShape(each.kv_heads, each.key_size, each.value_size) for each in description.layers)


def head_size(config: Config) -> int:
    """Elements of one head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _layer(family: Family, config: Config, number: int, kinds: tuple[str | None, ...]) -> Layer:
    size, hidden = head_size(config), config["hidden_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    activation = config.get("hidden_activation") or config["hidden_act"]
    if activation not in ACTIVATIONS or (family.gated and ACTIVATIONS[activation] == "relu_squared"):
        raise NotDescribed(f"activation {activation!r} is not one of the decoder's")
    kind = config["layer_types"][number] if kinds[0] is not None else None
    norms = {place: _norm(family, config, hidden) for place in family.norms}
    return Layer(
        q_heads=heads,
        kv_heads=kv_heads,
        key_size=size,
        value_size=size,
        inner=config["intermediate_size"],
        scale=family.scale(config, size),
        activation=ACTIVATIONS[activation],
        gated=family.gated,
        q_norm=_head_norm(family, config, size, heads),
        k_norm=_head_norm(family, config, size, kv_heads),
        rotation=kinds.index(kind) if family.rotates(config, number) else None,
        norm_after_rotation=family.head_norms_after_rotation,
        qkv_bias=_flag(config, family.qkv_bias),
        output_bias=_flag(config, family.output_bias),
        up_bias=_flag(config, family.mlp_bias),
        down_bias=_flag(config, family.mlp_bias),
        window=_window(family, config, number),
        softcap=_number(config, family.softcap, 0.0),
        clip=_number(config, family.clip, 0.0),
        residual_multiplier=_number(config, family.residual_multiplier, 1.0),
        parallel=family.parallel,
        before_attention=norms.get("before_attention"),
        after_attention=norms.get("after_attention"),
        before_mlp=norms.get("before_mlp"),
        after_mlp=norms.get("after_mlp"),
    )


def _norm(family: Family, config: Config, size: int) -> Norm:
    eps = family.norm_eps if isinstance(family.norm_eps, float) else config[family.norm_eps]
    return Norm(
        family.norm_kind, size, eps, weight=family.norm_weight, bias=family.norm_bias, offset=family.norm_offset
    )


def _head_norm(family: Family, config: Config, size: int, heads: int) -> Norm | None:
    if family.head_norms is None or (family.head_norms_if is not None and not config[family.head_norms_if]):
        return None
    return _norm(family, config, size * heads if family.head_norms_span_rows else size)


def _window(family: Family, config: Config, number: int) -> int:
    """Keys that a query of this layer sees; 0: all."""
    types = config.get("layer_types")
    has_window = family.window_everywhere if types is None else types[number] == "sliding_attention"
    if not has_window or config.get("use_sliding_window") is False:
        return 0
    return int(config.get("sliding_window") or 0)


def _rotary_kinds(config: Config) -> tuple[str | None, ...]:
    """The layer types that have a rotary embedding of their own; (None,) where there is one for all."""
    parameters: Mapping[str, Any] = config.get("rope_parameters") or {}
    if "rope_type" in parameters:
        return (None,)
    if not parameters:
        raise NotDescribed("config.json says nothing of rotary embeddings")
    return tuple(sorted(parameters))


def _flag(config: Config, switch: bool | str) -> bool:
    return switch if isinstance(switch, bool) else bool(config.get(switch))


def _number(config: Config, name: str | None, default: float) -> float:
    value = None if name is None else config.get(name)
    return default if value is None else float(value)
