"""`python -m quire_protocol` prints the schemas and the version."""

import json
import subprocess
import sys

import pytest

from quire_protocol import __main__ as command
from quire_protocol.__about__ import __version__


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    command.main(arguments)
    return capsys.readouterr().out


def test_one_model_is_its_own_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(printed(capsys, "schema", "ChatCompletionRequest"))
    assert schema["title"] == "ChatCompletionRequest"
    assert schema["required"] == ["messages"]
    assert schema["properties"]["top_k"]["description"]


def test_several_models_share_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    definitions = json.loads(printed(capsys, "schema", "UsageInfo", "ModelCard"))["$defs"]
    assert {"UsageInfo", "ModelCard", "ModelPermission"} <= {*definitions}


def test_every_model_is_in_the_whole_document(capsys: pytest.CaptureFixture[str]) -> None:
    definitions = json.loads(printed(capsys, "schema"))["$defs"]
    assert {*command.models()} <= {definition.get("title") for definition in definitions.values()}
    assert len(command.models()) >= 78


def test_an_unknown_model_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"there is no model named Chat; the models are: .*ChatCompletionRequest"):
        printed(capsys, "schema", "Chat")


def test_the_version_is_printed_by_the_module_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quire_protocol", "version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"{__version__}\n"
