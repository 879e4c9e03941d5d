from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quire_engine.config import Decisions, EngineConfig
from quire_engine.decide import CPU_CACHE_BYTES, decide
from quire_engine.errors import ConfigError
from quire_engine.kv.budget import Machine
from quire_engine.kv.cache import LayerShape
from quire_engine.model.spec import ContextLimit, ModelSpec

GIB = 1 << 30
LAYERS = (LayerShape(heads=8, key_size=128, value_size=128),) * 28  # 112 KiB a token in bfloat16


TRAINED = ContextLimit(4096, "max_position_embeddings of config.json", advertised=4096)


def spec(context: ContextLimit | None = TRAINED) -> ModelSpec:
    return ModelSpec(Path("/models/some"), "SomeForCausalLM", "bfloat16", 8192, context, (2,), {"top_k": 20})


def cpu(free: int = 20 * GIB) -> Machine:
    return Machine("cpu", 2 * free, free)


def settle(machine: Machine | None = None, model: ModelSpec | None = None, **config: Any) -> Decisions:
    return decide(
        EngineConfig(**config), model or spec(), machine or cpu(), attention="paged", layers=LAYERS, parameters=10
    )


def test_what_is_not_asked_is_chosen() -> None:
    decisions = settle()
    assert (decisions.dtype, decisions.max_model_len, decisions.block_size) == ("bfloat16", 4096, 16)
    assert decisions.kv_cache_bytes == decisions.num_blocks * 16 * 112 * 1024
    assert decisions.sampling_defaults == {"top_k": 20}
    assert decisions.eos_token_ids == (2,)


def test_the_model_s_limit_holds_and_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"max_model_len is 5000, .* 4096 tokens: max_position_embeddings"):
        settle(max_model_len=5000)


def test_a_context_shorter_than_promised_is_explained() -> None:
    limit = ContextLimit(1024, "longrope changes the frequencies of all positions beyond it", advertised=8192)
    decisions = settle(model=spec(limit))
    assert decisions.max_model_len == 1024
    assert decisions.notes[0] == f"max_model_len is 1024, not 8192: {limit.reason}"


def test_a_model_that_states_no_context_gets_a_note() -> None:
    decisions = settle(model=spec(context=None))
    assert decisions.max_model_len == 2048
    assert "states no context length" in decisions.notes[0]


def test_a_cpu_gives_the_cache_no_more_than_a_modest_part_unless_asked() -> None:
    modest = settle()
    assert CPU_CACHE_BYTES - 16 * 112 * 1024 < modest.kv_cache_bytes <= CPU_CACHE_BYTES
    assert "kv_cache_memory_bytes" in modest.notes[0]
    assert settle(gpu_memory_utilization=0.5).kv_cache_bytes == pytest.approx(10 * GIB, rel=0.01)
    assert settle(kv_cache_memory_bytes=GIB).kv_cache_bytes == pytest.approx(GIB, rel=0.01)


def test_the_cache_is_no_larger_than_all_sequences_can_use() -> None:
    decisions = settle(max_num_seqs=2, max_model_len=100)
    assert decisions.num_blocks == 2 * 7
    assert decisions.notes == ()


def test_a_card_keeps_back_what_was_not_given() -> None:
    card = Machine("cuda Some Card", 80 * GIB, free_bytes=60 * GIB)
    decisions = settle(card, max_num_seqs=1024)
    assert decisions.device == "cuda Some Card"
    assert decisions.kv_cache_bytes == pytest.approx(52 * GIB, rel=0.01)


def test_the_context_is_lowered_to_what_fits_and_said_so() -> None:
    decisions = settle(kv_cache_memory_bytes=1000 * 112 * 1024)
    assert decisions.max_model_len == 992
    assert "lowered from 4096 to 992" in decisions.notes[0]


def test_a_context_that_was_asked_for_is_never_lowered() -> None:
    with pytest.raises(ConfigError, match=r"max_model_len is 2000, but the KV cache holds 992 tokens"):
        settle(max_model_len=2000, kv_cache_memory_bytes=1000 * 112 * 1024)


def test_no_memory_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no memory is left"):
        settle(cpu(free=1000))


def test_graphs_and_overlap_are_for_cuda_unless_asked_for_or_against() -> None:
    cuda = Machine("cuda Some Card", 80 * GIB, 60 * GIB)
    assert (settle(cuda).captures_graphs, settle(cuda).async_scheduling) == (True, True)
    assert (settle().captures_graphs, settle().async_scheduling) == (False, False)
    assert not settle(cuda, enforce_eager=True).captures_graphs
    assert not settle(cuda, async_scheduling=False).async_scheduling
    assert settle(async_scheduling=True).async_scheduling
