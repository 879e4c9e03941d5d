"""What was proven is remembered for as long as nothing changes, and a damaged memory costs a proof."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.families import family_named, save
from tests.support.schedules import roomy_config

from quire_engine.checkpoint import DEFAULT_MODEL
from quire_engine.engine import Engine
from quire_engine.errors import ConfigError
from quire_engine.model.native.memory import Known, key_of, recall, remember
from quire_engine.model.native.verdict import verdict
from quire_engine.model.native.weights import Checkpoint
from quire_engine.model.spec import ContextLimit
from quire_kernels.decoder import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="the CPU library was not built")

KNOWN = Known("Some", "bfloat16", 97, ContextLimit(5, "so it says", 5), (1, 2), None, reason="it is odd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that may be changed."""
    return save(family_named("mistral"), tmp_path / "model")


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    remember(tmp_path / "new", "key", KNOWN)
    assert recall(tmp_path / "new", "key") == KNOWN
    assert recall(tmp_path / "new", "other") is None


def test_a_whole_description_comes_back(folder: Path, tmp_path: Path) -> None:
    config = roomy_config(model=str(folder), cache_dir=str(tmp_path / "cache"))
    first = verdict(folder, config)
    assert isinstance(first, Known)
    assert first.description is not None
    assert recall(tmp_path / "cache" / "proofs", key_of(folder)) == first
    assert verdict(folder, config) == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"architecture": 3}', b"\xff\x00"])
def test_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.json").write_bytes(content)
    assert recall(tmp_path, "key") is None


def test_a_folder_that_cannot_be_written_to_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remember(tmp_path / "file" / "folder", "key", KNOWN)
    assert recall(tmp_path / "file" / "folder", "key") is None


def test_other_values_of_weights_are_the_same_model_and_other_shapes_are_not(folder: Path) -> None:
    before = key_of(folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: 2 * weight for name, weight in weights.items()}, file)
    with_metadata = key_of(folder)
    save_file({name: 3 * weight for name, weight in weights.items()}, file)
    assert key_of(folder) == with_metadata
    save_file({name: weight.to(torch.bfloat16) for name, weight in weights.items()}, file)
    assert key_of(folder) not in (before, with_metadata)


def test_another_configuration_is_another_model(folder: Path) -> None:
    before = key_of(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sliding_window": 7}))
    assert key_of(folder) != before


def test_the_second_start_needs_no_transformers(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    script = f"""
import sys
from quire_engine.config import EngineConfig
from quire_engine.engine import Engine
engine = Engine.load(EngineConfig(device="cpu", cache_dir={cache!r}))
assert "native" in engine.decisions.compute, engine.decisions
print("transformers" in sys.modules)
"""
    told = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200).stdout
        for _ in range(2)
    ]
    assert told == ["True\n", "False\n"]


def test_the_embedded_default_is_computed_natively(tmp_path: Path) -> None:
    engine = Engine.load(roomy_config(cache_dir=str(tmp_path)))
    assert engine.decisions.compute.startswith("the native decoder (")
    assert engine.decisions.notes == ()
    assert engine.decisions.parameters == sum(
        weight.numel() for weight in load_file(DEFAULT_MODEL / "model.safetensors").values()
    )


def test_native_may_be_left_out_without_a_word(folder: Path) -> None:
    decisions = Engine.load(roomy_config(model=str(folder), native=False)).decisions
    assert (decisions.compute, decisions.notes) == ("transformers", ())


def test_what_has_no_description_is_served_by_transformers_with_the_reason(tmp_path: Path) -> None:
    folder = str(save(family_named("gpt2"), tmp_path / "model"))
    decisions = Engine.load(roomy_config(model=folder, cache_dir=str(tmp_path))).decisions
    assert decisions.compute == "transformers"
    assert decisions.notes == ("not computed natively, which is faster: there is no description of model type 'gpt2'",)
    with pytest.raises(ConfigError, match="native is asked for, but cannot be had: there is no description"):
        Engine.load(roomy_config(model=folder, native=True, cache_dir=str(tmp_path)))


def test_what_may_pass_is_not_remembered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = roomy_config(model=str(folder), cache_dir=str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "__init__", lambda *_: (_ for _ in ()).throw(MemoryError("full")))
        assert verdict(folder, config) == "MemoryError: full"
    found = verdict(folder, config)
    assert isinstance(found, Known)
    assert found.description is not None


def test_a_checkpoint_that_lacks_a_weight_is_refused_as_ever(folder: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="does not hold all of"):
        Engine.load(roomy_config(model=str(folder), cache_dir=str(tmp_path / "cache")))


def test_a_checkpoint_in_parts_is_read_by_its_index(folder: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / part, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part for part, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    decisions = Engine.load(roomy_config(model=str(folder), cache_dir=str(tmp_path / "cache"))).decisions
    assert decisions.compute.startswith("the native decoder (")
    shutil.rmtree(folder)
