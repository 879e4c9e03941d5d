"""Builds the CPU library with the system's C++ compiler; knows compilers and wheel tags, not what the library computes.

Without a compiler, or on another processor than x86-64 or another system than Linux, the package is built without it:
its ops then run in plain torch, slowly, and `quire check` says so.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libquire_cpu.so"
COMMON = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror=vla"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512")
_AVX512BF16 = (*_AVX512, "-mavx512vnni", "-mavx512bf16")
ISAS = {
    "avx2": _AVX2,
    "avx512": _AVX512,
    "avx512bf16": _AVX512BF16,
    "amx_emulated": (*_AVX512BF16, "-DQUIRE_EMULATE_TILES"),
    "amx": (*_AVX512BF16, "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
}
"""Instruction sets for which kernels.cpp is compiled, and the flags that allow them."""


class CpuLibraryHook(BuildHookInterface[Any]):
    """Compiles csrc/cpu into src/quire_kernels/libquire_cpu.so, for wheels and for editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is not built yet, and let the wheel carry it under the right tag."""
        root = Path(self.root)
        library = root / "src" / "quire_kernels" / LIBRARY
        compiler = find_compiler()
        if compiler is None:
            self.app.display_warning("No C++ compiler for this system: the CPU library is left out, ops run in torch.")
            return
        if not is_fresh(library, root, compiler):
            build(library, root, compiler)
        build_data["artifacts"].append(f"src/quire_kernels/{LIBRARY}")
        build_data["force_include"][str(library)] = f"quire_kernels/{LIBRARY}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library)}"


def find_compiler() -> str | None:
    """The compiler that $CXX names, or the first of the usual ones; None where the sources do not apply."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def build(library: Path, root: Path, compiler: str) -> None:
    """Compile and link; a failure shows what the compiler said."""
    source = root / "csrc" / "cpu"
    with TemporaryDirectory() as folder:
        units = [
            ("team.cpp", "team.o", ()),
            ("library.cpp", "library.o", ()),
            *(("kernels.cpp", f"{isa}.o", (f"-DQUIRE_ISA={isa}", *flags)) for isa, flags in ISAS.items()),
        ]

        def compile_unit(unit: tuple[str, str, tuple[str, ...]]) -> str:
            name, target, flags = unit
            built = str(Path(folder) / target)
            run(compiler, *COMMON, *flags, "-c", str(source / name), "-o", built)
            return built

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_unit, units))
        fresh = Path(folder) / LIBRARY
        bare = (
            "-nodefaultlibs",
            "-lgcc",
            "-lc",
            "-lm",
        )  # nothing but the C library is asked of a machine, no C++ runtime
        run(compiler, "-shared", "-pthread", "-Wl,--no-undefined", "-o", str(fresh), *objects, *bare)
        partial = library.with_suffix(".partial")
        shutil.copy(fresh, partial)
        partial.replace(library)  # at once: a process that has the old one open keeps it
    stamp_of(library).write_text(fingerprint(root, compiler))


def run(*command: str) -> None:
    """Run the compiler; RuntimeError with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def is_fresh(library: Path, root: Path, compiler: str) -> bool:
    """Whether the library was built from these sources by this compiler."""
    stamp = stamp_of(library)
    return library.exists() and stamp.exists() and stamp.read_text() == fingerprint(root, compiler)


def stamp_of(library: Path) -> Path:
    """The file that says what a library was built from."""
    return library.with_suffix(".stamp")


def fingerprint(root: Path, compiler: str) -> str:
    """Changes with every source, every flag and the compiler."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version)
    for path in (Path(__file__), *sorted((root / "csrc" / "cpu").iterdir())):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def platform_tag(library: Path) -> str:
    """The oldest manylinux that has every version of a C library symbol that the library asks for (PEP 600)."""
    versions = re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())
    return f"manylinux_2_{max([17, *map(int, versions)])}_x86_64"
