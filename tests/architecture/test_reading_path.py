"""docs/reading-path.md leads to code that exists."""

import ast
import re

import pytest
from tests.architecture.source import ROOT, modules

STOPS = re.findall(r"`(quire_\w+)/([\w/]+)\.py · ([\w.]+)`", (ROOT / "docs/reading-path.md").read_text())


def test_the_path_has_every_station_of_a_request() -> None:
    assert len(STOPS) >= 14


@pytest.mark.parametrize(("package", "path", "symbol"), STOPS, ids=[f"{path}.{symbol}" for _, path, symbol in STOPS])
def test_a_stop_of_the_reading_path_exists(package: str, path: str, symbol: str) -> None:
    scope: ast.AST = modules()[f"{package}.{path.replace('/', '.')}"]
    for name in symbol.split("."):
        scope = next(
            node
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        )
