"""Tiny random float32 models of many families, each with every feature it has turned on so far that a loss shows."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

# One token for each printable character of ASCII, and two more: 97.
VOCABULARY = ("<pad>", "<eos>", *sorted(set(string.printable) - set("\t\n\r\v\f")))


@dataclass(frozen=True)
class Family:
    """One model type, and the configuration in which its features bite."""

    model_type: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.model_type}-{self.variant}" if self.variant else self.model_type


COMMON: Mapping[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}

# The same in the names of GPT-2's time.
OLD_NAMES = {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 256}

WINDOWED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
HALF_ROTARY = {"partial_rotary_factor": 0.5}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED_EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}
LATENT = {  # keys of 16, values of 12
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
ROPE_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ROPE_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
SCALED = {  # Granite's
    "attention_multiplier": 0.7,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.6,
    "logits_scaling": 2.0,
}

FAMILIES: tuple[Family, ...] = (
    Family("llama", {"attention_bias": True, "mlp_bias": True}),
    Family("llama", {"rope_parameters": ROPE_LLAMA3, "tie_word_embeddings": True}, "rope-llama3"),
    Family("llama", {"rope_parameters": ROPE_YARN, "num_key_value_heads": 1, "head_dim": 16}, "rope-yarn"),
    Family(
        "llama4_text",
        {
            **LOCAL_EXPERTS,
            "head_dim": 8,
            "intermediate_size_mlp": 48,
            "no_rope_layers": [1, 0, 1],
            "attention_chunk_size": 64,
            "attn_temperature_tuning": False,
        },
    ),
    Family("mistral", {"sliding_window": 6}),
    Family("ministral3", {"head_dim": 16}),
    Family("mixtral", {**LOCAL_EXPERTS, "sliding_window": 6}),
    Family("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    Family("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 24}),
    Family("qwen3", {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}),
    Family("qwen3_moe", {**EXPERTS, "head_dim": 16, "mlp_only_layers": [1]}),
    Family("gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    Family(
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 9,
            "sliding_window": 6,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    Family("gemma3_text", {**WINDOWED, "head_dim": 16, "query_pre_attn_scalar": 9}),
    Family(
        "gemma3n_text",
        {
            **WINDOWED,
            "head_dim": 8,
            "num_kv_shared_layers": 0,
            "activation_sparsity_pattern": None,
            "vocab_size_per_layer_input": 97,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "intermediate_size": [48, 48, 48],
        },
    ),
    Family(
        "gemma4_text",
        {
            "sliding_window": 6,
            "head_dim": 8,
            "global_head_dim": 16,
            "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "vocab_size_per_layer_input": 97,
            "hidden_size_per_layer_input": 8,
        },
    ),
    Family("phi", {**HALF_ROTARY, "qk_layernorm": True}),
    Family("phi3", {**HALF_ROTARY, "sliding_window": 6}),
    Family("olmo", {"clip_qkv": 0.5}),
    Family("olmo2"),
    Family("olmo3", WINDOWED),
    Family("olmoe", {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}),
    Family("granite", {**SCALED, "attention_bias": True}),
    Family("granitemoe", {**SCALED, **LOCAL_EXPERTS}),
    Family("granitemoeshared", {**SCALED, **LOCAL_EXPERTS, "shared_intermediate_size": 24}),
    Family("cohere", {"logit_scale": 0.5, "use_qk_norm": True}),
    Family("cohere2", {**WINDOWED, "head_dim": 8, "logit_scale": 0.5}),
    Family("smollm3", {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 6}),
    Family("glm", {**HALF_ROTARY, "head_dim": 8}),
    Family("glm4", {**HALF_ROTARY, "head_dim": 8}),
    Family("glm4_moe", {**HALF_ROTARY, **ROUTED_EXPERTS, "head_dim": 8, "use_qk_norm": True}),
    Family("deepseek_v2", {**ROUTED_EXPERTS, **LATENT}),
    Family("deepseek_v3", {**ROUTED_EXPERTS, **LATENT}),
    Family("starcoder2", {"sliding_window": 6}),
    Family("gpt2", OLD_NAMES),
    Family("gpt_bigcode", {**OLD_NAMES, "multi_query": True}),
    Family("gpt_neox", {"rotary_pct": 0.5, "use_parallel_residual": True}),
    Family(
        "gpt_oss",
        {
            **LOCAL_EXPERTS,
            **WINDOWED,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    Family("opt", {"ffn_dim": 48, "word_embed_proj_dim": 24}),
    Family("biogpt"),
    Family("exaone4", WINDOWED),
    Family("ernie4_5", {"use_bias": True}),
    Family("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24}),
    Family("minimax_m2", {**LOCAL_EXPERTS, "head_dim": 8}),
    Family("apertus"),
    Family("arcee"),
    Family("helium", {"head_dim": 8}),
    Family("seed_oss", {"head_dim": 16, "attention_bias": True}),
    Family("hunyuan_v1_dense", {"head_dim": 16}),
    Family("persimmon", {**HALF_ROTARY, "qk_layernorm": True}),
)

# What is refused, and words of the reason that must be given.
REFUSED: tuple[tuple[Family, str], ...] = (
    (Family("bloom", {"n_head": 4, "n_layer": 3}, "alibi"), "attention interface"),
    (Family("falcon"), "attention interface"),
    (Family("stablelm"), "hand keywords down"),
    (Family("phimoe", {**LOCAL_EXPERTS, "sliding_window": 6}, "window-in-the-mask"), "masks other keys"),
    (Family("bert", {}, "sees-ahead"), "masks other keys"),
    (Family("diffllama", {}, "attends-twice"), "more than once"),
    (Family("mamba", {}, "recurrent"), "state of another kind"),
    (Family("recurrent_gemma", {"head_dim": 8, "attention_window_size": 6}, "hybrid"), "state of another kind"),
    (Family("llama4_text", {**LOCAL_EXPERTS, "head_dim": 8, "attn_temperature_tuning": True}, "temperature"), "row"),
)


def build(family: Family, seed: int = 0) -> PreTrainedModel:
    """The model with random weights, large enough that every layer matters."""
    config = AutoConfig.for_model(family.model_type, **{**COMMON, **family.overrides})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if is_norm else 0.25 * noise)
    return model


def save(family: Family, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of `build(family)` with a tokenizer, as one would find it on the Hub."""
    build(family, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each character."""
    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(VOCABULARY)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


def family_named(name: str) -> Family:
    """The one of FAMILIES that is printed like this."""
    (found,) = (family for family in FAMILIES if str(family) == name)
    return found


class Checkpoints:
    """Saved families, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, family: Family) -> Path:
        """The family's checkpoint folder."""
        folder = self._folder / str(family)
        return folder if folder.exists() else save(family, folder)
