"""The build hook: which tag a wheel gets, and what becomes of it where nothing can be compiled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("hatchling")
PACKAGE = Path(__file__).parents[2] / "packages" / "kernels"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", PACKAGE / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class App:
    """What hatchling gives a hook to speak through."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def initialized(hook: ModuleType, root: Path) -> tuple[dict[str, Any], App]:
    app = App()
    build_data: dict[str, Any] = {"artifacts": [], "force_include": {}, "pure_python": True}
    hook.CpuLibraryHook(str(root), {}, None, None, "", "wheel", app).initialize("standard", build_data)
    return build_data, app


def test_without_a_compiler_the_package_is_pure_and_says_so(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build_data, app = initialized(hook, PACKAGE)
    assert build_data == {"artifacts": [], "force_include": {}, "pure_python": True}
    assert [warning.partition(":")[0] for warning in app.warnings] == ["No C++ compiler for this system"]


def test_other_systems_and_processors_get_no_library(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook.platform, "machine", lambda: "aarch64")
    assert hook.find_compiler() is None
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hook.find_compiler() is None


def test_a_compiler_that_is_named_is_the_one(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if hook.find_compiler() is None:
        pytest.skip("no compiler here")
    own = tmp_path / "own-c++"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", str(own))
    assert hook.find_compiler() == str(own)


@pytest.mark.parametrize(
    ("symbols", "tag"),
    [
        (b"GLIBC_2.2.5\0GLIBC_2.14\0", "manylinux_2_17_x86_64"),
        (b"GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.28\0", "manylinux_2_34_x86_64"),
    ],
    ids=["old", "new"],
)
def test_the_tag_is_of_the_newest_symbol_that_is_asked_for(
    hook: ModuleType, tmp_path: Path, symbols: bytes, tag: str
) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"\x7fELF" + symbols)
    assert hook.platform_tag(library) == tag


def test_a_library_is_built_anew_when_its_sources_change(hook: ModuleType, tmp_path: Path) -> None:
    compiler = hook.find_compiler()
    if compiler is None:
        pytest.skip("no compiler here")
    sources = tmp_path / "csrc" / "cpu"
    sources.mkdir(parents=True)
    (sources / "one.cpp").write_text("int one();")
    library = tmp_path / "library.so"
    library.write_bytes(b"")
    assert not hook.is_fresh(library, tmp_path, compiler)
    hook.stamp_of(library).write_text(hook.fingerprint(tmp_path, compiler))
    assert hook.is_fresh(library, tmp_path, compiler)
    (sources / "one.cpp").write_text("int two();")
    assert not hook.is_fresh(library, tmp_path, compiler)
