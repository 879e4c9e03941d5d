"""What a checkpoint's configuration says about serving it. The only reader of transformers' configs; no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, ModelNotSupported

if TYPE_CHECKING:  # slow to import, and what was read once is read from the cache of proofs afterwards
    from transformers import PreTrainedConfig

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

# generation_config.json's name -> SamplingParams' name; `max_new_tokens` is a cap and keeps its own.
SAMPLING_DEFAULTS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_new_tokens": "max_new_tokens",
}


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """The longest context a model computes rightly, and what sets it."""

    tokens: int
    reason: str
    """Reads on from "the model's limit is N tokens: "."""
    advertised: int
    """What the configuration promises; more than `tokens` where not all of it can be served."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the checkpoint's files say, before any weight is read."""

    path: Path
    architecture: str
    """Class name of the model."""
    dtype: str
    """The checkpoint's own type: float32, float16 or bfloat16."""
    vocab_size: int
    """Rows of the output projection."""
    context: ContextLimit | None
    """None: the configuration does not say."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer, of config.json and generation_config.json."""
    sampling_defaults: Mapping[str, Any]
    """Under SamplingParams' names, and `max_new_tokens`."""


def read_spec(path: Path, config: EngineConfig) -> ModelSpec:
    """Read a checkpoint folder; ModelNotSupported for what cannot be served, with the reason."""
    whole = read_config(path, config.trust_remote_code)
    _refuse_other_kinds(path, whole, config.trust_remote_code)
    text = whole.get_text_config()
    generation = read_json(path / "generation_config.json")
    return ModelSpec(
        path=path,
        architecture=_architecture(whole),
        dtype=_dtype(whole, text),
        vocab_size=text.vocab_size,
        context=_context_limit(text),
        eos_token_ids=_eos_token_ids(text.eos_token_id, whole.eos_token_id, generation.get("eos_token_id")),
        sampling_defaults=read_sampling_defaults(path, config.generation_config),
    )


def read_config(path: Path, trust_remote_code: bool = False) -> PreTrainedConfig:
    """config.json with its defaults filled in, as transformers' own class for it. ConfigError where there is none."""
    from transformers import AutoConfig

    raw = read_json(path / "config.json")
    if not raw:
        raise ConfigError(f"{path} has no config.json: it is not a checkpoint of a transformers model")
    kind = raw.get("model_type")
    if kind not in _known_kinds():
        if "auto_map" not in raw:
            raise ModelNotSupported(
                f"model_type {kind!r} is not known to this version of transformers; a newer one may know it"
            )
        if not trust_remote_code:
            raise ModelNotSupported(
                f"model_type {kind!r} comes with code of its own; read that code, and set trust_remote_code to run it"
            )
    try:
        return cast("PreTrainedConfig", AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code))
    except Exception as error:  # each model's configuration checks itself in its own way
        raise ModelNotSupported(f"config.json cannot be used: {' '.join(str(error).split())}") from error


def _known_kinds() -> frozenset[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return frozenset(CONFIG_MAPPING.keys())


def _refuse_other_kinds(path: Path, config: PreTrainedConfig, trust_remote_code: bool) -> None:
    """What is not a decoder-only language model in safetensors is refused by name, before anything is loaded."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    name = _architecture(config)
    if config.is_encoder_decoder:
        raise ModelNotSupported(f"{name} is an encoder-decoder; Quire serves decoder-only language models")
    has_own_code = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not has_own_code:
        raise ModelNotSupported(
            f"{name} is no causal language model to transformers; if it contains one, save that part on its own"
        )
    if getattr(config.get_text_config(), "attn_temperature_tuning", False):
        raise ModelNotSupported(
            f"{name} tunes its attention by a token's row in the pass, which is its position only when one sequence "
            "runs alone; attn_temperature_tuning: false in its config.json changes nothing up to floor_scale tokens"
        )
    if not any(path.glob("*.safetensors")):
        raise ModelNotSupported(
            f"{path} has no *.safetensors; convert the weights, other formats can run code when they are read"
        )


def _architecture(config: PreTrainedConfig) -> str:
    return str((config.architectures or [type(config).__name__.replace("Config", "")])[0])


def _dtype(whole: PreTrainedConfig, text: PreTrainedConfig) -> str:
    """The type the weights were saved in; float32 if nothing is said, bfloat16 if it is none of ours (fp8, say)."""
    stored = text.dtype or whole.dtype
    if stored is None:
        return "float32"
    name = str(stored).removeprefix("torch.")
    return name if name in DTYPES else "bfloat16"


def _context_limit(text: PreTrainedConfig) -> ContextLimit | None:
    """The shortest of what the configuration implies.

    Two kinds of rotary embedding change the frequencies of *all* positions when the longest position of a pass crosses
    a border, so that a prompt's keys would depend on how it was cut and who was packed beside it. Below the border they
    are constant; the border is therefore the limit. Chunked attention equals full attention within its first chunk.
    """
    limits = dict(_context_limits(text))
    if not limits:
        return None
    tokens = min(limits)
    return ContextLimit(tokens, limits[tokens], advertised=max(limits))


def _context_limits(text: PreTrainedConfig) -> Iterator[tuple[int, str]]:
    """Every limit in tokens, and what sets it."""
    trained: int | None = getattr(text, "max_position_embeddings", None)
    ropes = list(_ropes(getattr(text, "rope_parameters", None) or {}))
    if trained is not None:
        # yarn's factor counts from the original length; some checkpoints leave max_position_embeddings at the original.
        stretched = [int(rope["original_max_position_embeddings"] * rope["factor"]) for rope in ropes if _is_yarn(rope)]
        yield max([trained, *stretched]), "max_position_embeddings of config.json"
    for rope in ropes:
        if rope.get("rope_type") == "longrope":
            original = rope.get("original_max_position_embeddings") or trained
            if original is not None:
                yield original, "longrope changes the frequencies of all positions beyond it"
        elif rope.get("rope_type") == "dynamic" and trained is not None:
            yield trained, "dynamic NTK changes the frequencies of all positions beyond it"
    chunk: int | None = getattr(text, "attention_chunk_size", None)
    if chunk is not None and "chunked_attention" in (getattr(text, "layer_types", None) or ()):
        yield chunk, "attention in chunks is served within the first chunk only"


def _ropes(parameters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """One set of rotary parameters, or one per layer type."""
    if "rope_type" in parameters:
        yield parameters
    else:
        yield from (inner for inner in parameters.values() if isinstance(inner, Mapping))


def _is_yarn(rope: Mapping[str, Any]) -> bool:
    return (
        rope.get("rope_type") == "yarn"
        and bool(rope.get("original_max_position_embeddings"))
        and bool(rope.get("factor"))
    )


def _eos_token_ids(*sources: int | list[int] | None) -> tuple[int, ...]:
    """The union, each id once, in the order in which it is named first."""
    ids: dict[int, None] = {}
    for source in sources:
        named = source if isinstance(source, list) else [source]
        ids.update((token, None) for token in named if token is not None)
    return tuple(ids)


def read_sampling_defaults(path: Path, wanted: str) -> dict[str, Any]:
    """From the checkpoint ("auto"), from nowhere ("vllm": SamplingParams' own defaults hold), or from a folder."""
    if wanted == "vllm":
        return {}
    source = read_json((path if wanted == "auto" else Path(wanted)) / "generation_config.json")
    if not source and wanted != "auto":
        raise ConfigError(
            f"generation_config {wanted!r}: a folder with a generation_config.json, 'auto' or 'vllm' is needed"
        )
    return {ours: source[theirs] for theirs, ours in SAMPLING_DEFAULTS.items() if source.get(theirs) is not None}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content
