"""The CPU library in tests: which instruction sets this machine has, and the library as it was afterwards."""

import shutil
from collections.abc import Iterator

import pytest

from quire_kernels import _cpu
from quire_kernels._cpu import Library, LibraryError


def _has(isa: str) -> bool:
    if _cpu.library is None:
        return False
    before = _cpu.library.isa
    try:
        _cpu.library.use_isa(isa)
    except LibraryError:
        return False
    _cpu.library.use_isa(before)
    return True


ISAS = [isa for isa in ("avx2", "avx512", "avx512bf16", "amx") if _has(isa)]


def library_or_skip() -> Iterator[Library]:
    """The library, put back to its instruction set and threads afterwards; a skip where no compiler built one."""
    if _cpu.library is None:
        if shutil.which("c++") is None:
            pytest.skip("no compiler: the package was installed without its library")
        pytest.fail("there is a compiler, but quire_kernels was installed without its library")
    isa, threads = _cpu.library.isa, _cpu.library.threads
    yield _cpu.library
    _cpu.library.use_isa(isa)
    _cpu.library.set_threads(threads)
