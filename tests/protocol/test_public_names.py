"""`from quire_protocol import …` gives every name, and pays for no other."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import quire_protocol

ONE_REQUEST = """
from quire_protocol import ChatCompletionRequest
ChatCompletionRequest(messages=[{"role": "user", "content": "Hi"}])
"""
ONE_MODEL = """
from pydantic import BaseModel
class Model(BaseModel):
    field: int
Model(field=1)
"""
SOURCE = ast.parse(Path(quire_protocol.__file__).read_text())


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def cpu_seconds(program: str) -> float:
    """What a program costs in a process of its own, at best."""
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(program)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(costs)


def test_type_checkers_see_the_names_that_programs_get() -> None:
    imported = {
        (alias.name, str(node.module).removeprefix("quire_protocol."))
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("quire_protocol.")
        for alias in node.names
    }
    assert imported == {*quire_protocol._MODULE_OF.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ChatCompletionReqest'"):
        quire_protocol.ChatCompletionReqest  # noqa: B018


@pytest.mark.parametrize("module", ["openai", "torch", "fastapi", "transformers", "msgspec"])
def test_a_chat_request_needs_pydantic_only(module: str) -> None:
    assert run(f"{ONE_REQUEST}\nimport sys; print({module!r} in sys.modules)").strip() == "False"


def test_the_package_alone_imports_nothing() -> None:
    assert run("import sys, quire_protocol; print('pydantic' in sys.modules)").strip() == "False"


def test_a_chat_request_costs_at_most_twice_what_pydantic_does() -> None:
    assert cpu_seconds(ONE_REQUEST) <= 2 * cpu_seconds(ONE_MODEL)
