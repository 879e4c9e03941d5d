from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.families import Family, save
from tests.support.schedules import roomy_config
from transformers import PreTrainedModel

from quire_engine.errors import ModelNotSupported
from quire_engine.model.load import load_model
from quire_engine.model.spec import read_spec

LLAMA = Family("llama")


def load(folder: Path, *, progress: bool = False) -> PreTrainedModel:
    spec = read_spec(folder, roomy_config(model=str(folder)))
    return load_model(spec, dtype="bfloat16", device=torch.device("cpu"), trust_remote_code=False, progress=progress)


def test_weights_come_in_the_dtype_asked_for_and_want_no_gradients(tmp_path: Path) -> None:
    model = load(save(LLAMA, tmp_path))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_loading_is_quiet_unless_a_bar_is_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(LLAMA, tmp_path)
    capfd.readouterr()
    load(tmp_path)
    assert capfd.readouterr() == ("", "")
    load(tmp_path, progress=True)
    assert "Loading weights" in capfd.readouterr().err


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    file = save(LLAMA, tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelNotSupported, match=r"1 missing keys, first 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        load(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    file = save(LLAMA, tmp_path) / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelNotSupported, match=r"model\.norm\.weight"):
        load(tmp_path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (save(LLAMA, tmp_path) / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelNotSupported, match="cannot be loaded"):
        load(tmp_path)
