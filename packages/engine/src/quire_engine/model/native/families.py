"""What each model type computes, as data: where its configuration and its checkpoint keep what a decoder needs.

To add a family: one entry in FAMILIES. Nothing here is trusted: model/native/proof.py compares the decoder that comes
of it with transformers' own model before anything is served from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Config = Mapping[str, Any]
"""config.json with every default filled in, as transformers' configuration class gives it."""


def _always(config: Config, layer: int) -> bool:
    return True


def _where_not_excepted(config: Config, layer: int) -> bool:
    return bool(config["no_rope_layers"][layer])


def _in_windows(config: Config, layer: int) -> bool:
    return bool(config["layer_types"][layer] == "sliding_attention")


def _in_windows_if_any(config: Config, layer: int) -> bool:
    return config["sliding_window"] is None or _in_windows(config, layer)


def _by_head_size(config: Config, head_size: int) -> float:
    return float(head_size**-0.5)


def _by_query_scalar(config: Config, head_size: int) -> float:
    return float(config["query_pre_attn_scalar"] ** -0.5)


def _by_attention_multiplier(config: Config, head_size: int) -> float:
    return float(config["attention_multiplier"])


def _one(config: Config) -> float:
    return 1.0


def _root_of_hidden(config: Config) -> float:
    return float(config["hidden_size"] ** 0.5)


@dataclass(frozen=True, slots=True)
class Family:
    """How a model type differs from Llama, whose values are the defaults.

    Names of weights are those of a layer, without ".weight"; a tuple is one product in parts, in this order. A bias is
    there always, never, or where the configuration says so under this name.
    """

    norms: Mapping[str, str] = field(
        default_factory=lambda: {"before_attention": "input_layernorm", "before_mlp": "post_attention_layernorm"}
    )
    """Place in the layer -> its name."""
    final_norm: str = "model.norm"
    norm_kind: Literal["rms", "layer"] = "rms"
    norm_eps: str | float = "rms_norm_eps"
    norm_weight: bool = True
    norm_bias: bool = False
    norm_offset: float = 0.0
    head_norms: tuple[str, str] | None = None
    """Of queries and of keys."""
    head_norms_if: str | None = None
    """The configuration's switch for them."""
    head_norms_span_rows: bool = False
    """All heads of a token are normalised together."""
    head_norms_after_rotation: bool = False
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    gated: bool = True
    qkv_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    head_bias: bool = False
    interleaved: bool = False
    """Rotary pairs are neighbours."""
    rotates: Callable[[Config, int], bool] = _always
    scale: Callable[[Config, int], float] = _by_head_size
    window_everywhere: bool = False
    """`sliding_window` holds in every layer where there are no `layer_types`."""
    softcap: str | None = None
    clip: str | None = None
    residual_multiplier: str | None = None
    parallel: bool = False
    embedding_scale: Callable[[Config], float] = _one
    scales_given: bool = False
    """Whether rows that come as embeddings are scaled too."""
    logits_scale: Callable[[Config], float] = _one
    logits_softcap: str | None = None


LLAMA = Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias")
MISTRAL = Family(window_everywhere=True)
QWEN3 = Family(
    head_norms=("self_attn.q_norm", "self_attn.k_norm"), qkv_bias="attention_bias", output_bias="attention_bias"
)
GEMMA = Family(
    norm_offset=1.0, qkv_bias="attention_bias", output_bias="attention_bias", embedding_scale=_root_of_hidden
)
SANDWICH = {
    "before_attention": "input_layernorm",
    "after_attention": "post_attention_layernorm",
    "before_mlp": "pre_feedforward_layernorm",
    "after_mlp": "post_feedforward_layernorm",
}
GEMMA2 = replace(
    GEMMA,
    norms=SANDWICH,
    scale=_by_query_scalar,
    softcap="attn_logit_softcapping",
    logits_softcap="final_logit_softcapping",
)
OLMO2 = Family(
    norms={"after_attention": "post_attention_layernorm", "after_mlp": "post_feedforward_layernorm"},
    head_norms=("self_attn.q_norm", "self_attn.k_norm"),
    head_norms_span_rows=True,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
)
COHERE = Family(
    norms={"before_attention": "input_layernorm"},
    norm_kind="layer",
    norm_eps="layer_norm_eps",
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    interleaved=True,
    parallel=True,
    logits_scale=lambda config: float(config["logit_scale"]),
)
GLM = Family(up=("mlp.gate_up_proj",), qkv_bias="attention_bias", interleaved=True)

FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": Family(qkv_bias=True),
    "qwen3": QWEN3,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": replace(GEMMA2, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
    "phi": Family(
        norms={"before_attention": "input_layernorm"},
        final_norm="model.final_layernorm",
        norm_kind="layer",
        norm_eps="layer_norm_eps",
        norm_bias=True,
        head_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
        head_norms_if="qk_layernorm",
        output="self_attn.dense",
        up=("mlp.fc1",),
        down="mlp.fc2",
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
        parallel=True,
    ),
    "phi3": Family(qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",), window_everywhere=True),
    "olmo": Family(
        norm_kind="layer",
        norm_eps=1e-5,
        norm_weight=False,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        clip="clip_qkv",
    ),
    "olmo2": OLMO2,
    "olmo3": OLMO2,
    "granite": Family(
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        mlp_bias="mlp_bias",
        scale=_by_attention_multiplier,
        residual_multiplier="residual_multiplier",
        embedding_scale=lambda config: float(config["embedding_multiplier"]),
        scales_given=True,
        logits_scale=lambda config: 1.0 / float(config["logits_scaling"]),
    ),
    "cohere": replace(COHERE, head_norms=("self_attn.q_norm", "self_attn.k_norm"), head_norms_if="use_qk_norm"),
    "cohere2": replace(COHERE, rotates=_in_windows),
    "smollm3": replace(LLAMA, rotates=_where_not_excepted),
    "glm": GLM,
    "glm4": replace(
        GLM,
        norms={
            "before_attention": "input_layernorm",
            "after_attention": "post_self_attn_layernorm",
            "before_mlp": "post_attention_layernorm",
            "after_mlp": "post_mlp_layernorm",
        },
    ),
    "starcoder2": Family(
        norm_kind="layer",
        norm_eps="norm_epsilon",
        norm_bias=True,
        up=("mlp.c_fc",),
        down="mlp.c_proj",
        gated=False,
        qkv_bias="use_bias",
        output_bias="use_bias",
        mlp_bias="use_bias",
        window_everywhere=True,
    ),
    "exaone4": Family(
        norms={"after_attention": "post_attention_layernorm", "after_mlp": "post_feedforward_layernorm"},
        head_norms=("self_attn.q_norm", "self_attn.k_norm"),
        rotates=_in_windows_if_any,
    ),
    "ernie4_5": Family(qkv_bias="use_bias", output_bias="use_bias", mlp_bias="use_bias", interleaved=True),
    "arcee": replace(LLAMA, up=("mlp.up_proj",), gated=False),
    "helium": Family(qkv_bias="attention_bias", mlp_bias="mlp_bias", interleaved=True),
    "seed_oss": Family(qkv_bias="attention_bias", output_bias="attention_out_bias", mlp_bias="mlp_bias"),
    "hunyuan_v1_dense": Family(
        head_norms=("self_attn.query_layernorm", "self_attn.key_layernorm"),
        head_norms_after_rotation=True,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
    ),
}
"""Model type -> family."""
