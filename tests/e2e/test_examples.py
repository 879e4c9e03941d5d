"""The examples run as they stand."""

import sys
from pathlib import Path

import pytest
from tests.support.processes import Server, run

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["client_only.py", "openai_client.py", "streaming.py", "tools.py"])
def test_a_client_runs_against_a_server(server: Server, name: str) -> None:
    ended = run(sys.executable, str(EXAMPLES / name), "--base-url", server.api)
    assert ended.returncode == 0, ended.stderr
    assert "tokens" in ended.stdout


def test_offline_needs_no_server() -> None:
    ended = run(sys.executable, str(EXAMPLES / "offline.py"))
    assert ended.returncode == 0, ended.stderr
    assert "chat -> " in ended.stdout


def test_every_example_is_run() -> None:
    run_here = {"client_only.py", "openai_client.py", "streaming.py", "tools.py", "offline.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == run_here
