"""Frequencies of rotary embeddings, as transformers computes them from a configuration. It knows no weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quire_engine.model.native.describe import NotDescribed, RopeOf, head_size


def rope_of(config: PreTrainedConfig) -> RopeOf:
    """What `describe` asks for the rotary embeddings of this configuration."""

    def rope(layer_type: str | None) -> tuple[tuple[float, ...], float]:
        parameters: Any = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
        kind = parameters["rope_type"]
        if kind == "default":
            return _default(parameters["rope_theta"], head_size(config.to_dict()), parameters), 1.0
        if kind not in ROPE_INIT_FUNCTIONS:
            raise NotDescribed(f"rotary embedding {kind!r} is not known")
        kinds = {} if layer_type is None else {"layer_type": layer_type}
        frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, None, **kinds)
        return tuple(frequencies.tolist()), float(scale)

    return rope


def _default(theta: float, size: int, parameters: Any) -> tuple[float, ...]:
    """1 / theta ** (2i / rotated size), in float32 as the models themselves compute it."""
    rotated = int(size * parameters.get("partial_rotary_factor", 1.0))
    frequencies = 1.0 / (theta ** (torch.arange(0, rotated, 2, dtype=torch.float32) / rotated))
    return tuple(frequencies.tolist())
