from __future__ import annotations

from pathlib import Path

import pytest

from quire_engine.checkpoint import resolve
from quire_engine.errors import ConfigError


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


def test_no_model_is_the_embedded_default_and_it_is_small() -> None:
    folder = resolve(None)
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert (folder / "model.safetensors").stat().st_size <= 16_000_000


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        resolve(name)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ConfigError, match="is a file"):
        resolve(str(file))


def test_what_the_hub_would_not_accept_is_refused_without_asking_it() -> None:
    with pytest.raises(ConfigError, match="valid Hub id"):
        resolve("not a name!")
