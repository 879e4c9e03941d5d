from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError, ModelNotSupported
from quire_engine.model.spec import ModelSpec, read_spec

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 97,
    "max_position_embeddings": 4096,
    "eos_token_id": 2,
    "torch_dtype": "float16",
}


def read(folder: Path, config: dict[str, Any], generation: dict[str, Any] | None = None, **asked: Any) -> ModelSpec:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return read_spec(folder, EngineConfig(**asked))


def rope(**parameters: Any) -> dict[str, Any]:
    return {**LLAMA, "rope_scaling": parameters}


def test_the_plain_facts_are_read(tmp_path: Path) -> None:
    spec = read(tmp_path, LLAMA)
    assert (spec.architecture, spec.dtype, spec.vocab_size) == ("LlamaForCausalLM", "float16", 97)
    assert spec.context is not None
    assert spec.context.tokens == 4096


def test_eos_tokens_of_both_files_end_an_answer(tmp_path: Path) -> None:
    assert read(tmp_path, LLAMA, {"eos_token_id": [7, 2, 9]}).eos_token_ids == (2, 7, 9)


def test_sampling_defaults_are_those_the_checkpoint_states(tmp_path: Path) -> None:
    stated = {"temperature": 0.6, "top_k": 20, "max_new_tokens": 100, "do_sample": True, "top_p": None}
    assert read(tmp_path, LLAMA, stated).sampling_defaults == {"temperature": 0.6, "top_k": 20, "max_new_tokens": 100}
    assert read(tmp_path, LLAMA, stated, generation_config="vllm").sampling_defaults == {}


def test_sampling_defaults_may_come_from_a_folder(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "generation_config.json").write_text('{"top_p": 0.5}')
    assert read(tmp_path, LLAMA, {"top_p": 0.9}, generation_config=str(other)).sampling_defaults == {"top_p": 0.5}
    with pytest.raises(ConfigError, match="generation_config"):
        read(tmp_path, LLAMA, generation_config=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("parameters", "tokens", "reason"),
    [
        ({"rope_type": "linear", "factor": 2.0}, 4096, "max_position_embeddings"),
        ({"rope_type": "dynamic", "factor": 4.0}, 4096, "dynamic NTK"),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384, "max_position"),
        (
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 64,
                "long_factor": [2.0] * 64,
                "original_max_position_embeddings": 1024,
            },
            1024,
            "longrope",
        ),
    ],
    ids=lambda value: value["rope_type"] if isinstance(value, dict) else "",
)
def test_the_context_ends_where_frequencies_would_change(
    tmp_path: Path, parameters: dict[str, Any], tokens: int, reason: str
) -> None:
    context = read(tmp_path, rope(**parameters)).context
    assert context is not None
    assert context.tokens == tokens
    assert reason in context.reason or tokens == LLAMA["max_position_embeddings"]


def test_attention_in_chunks_is_served_within_the_first_one(tmp_path: Path) -> None:
    config = {
        "model_type": "llama4_text",
        "architectures": ["Llama4ForCausalLM"],
        "attention_chunk_size": 512,
        "attn_temperature_tuning": False,
    }
    context = read(tmp_path, config).context
    assert context is not None
    assert context.tokens == 512
    assert "chunk" in context.reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "no-such-kind"}, "not known to this version"),
        ({"model_type": "no-such-kind", "auto_map": {"AutoConfig": "a.B"}}, "trust_remote_code"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "encoder-decoder"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "no causal language model"),
        ({**LLAMA, "num_attention_heads": "many"}, "cannot be used"),
    ],
)
def test_what_is_no_language_model_of_ours_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        read(tmp_path, config)


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelNotSupported, match=r"no \*\.safetensors"):
        read_spec(tmp_path, EngineConfig())


def test_a_folder_without_a_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        read_spec(tmp_path, EngineConfig())


def test_a_config_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
        read_spec(tmp_path, EngineConfig())
