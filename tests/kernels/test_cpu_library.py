"""The CPU library as a whole: it is there, it can be told what to use, and one job at a time has the team."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.support.native import library_or_skip

from quire_kernels import _cpu
from quire_kernels._cpu import Library, LibraryError, RmsNorm, pointer


@pytest.fixture
def library() -> Iterator[Library]:
    yield from library_or_skip()


def norm(x: torch.Tensor) -> torch.Tensor:
    out, weight = torch.full_like(x, torch.nan), torch.ones(x.shape[1])
    rows, size = x.shape
    assert _cpu.library is not None
    _cpu.library.run("rms_norm", RmsNorm(pointer(out), pointer(x), None, pointer(weight), rows, size, size, 1e-6, 0, 0))
    return out


def test_an_instruction_set_that_is_unknown_is_refused_and_the_one_in_use_stays(library: Library) -> None:
    before = library.isa
    with pytest.raises(LibraryError, match=f"'sse9'.*{before} is in use"):
        library.use_isa("sse9")
    assert library.isa == before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_answer(library: Library, threads: int) -> None:
    x = torch.randn(131, 640)
    expected = torch.nn.functional.rms_norm(x, (640,), eps=1e-6)
    library.set_threads(threads)
    assert library.threads == threads
    torch.testing.assert_close(norm(x), expected)


def test_callers_from_many_threads_do_not_disturb_one_another(library: Library) -> None:
    library.set_threads(2)
    inputs = [torch.randn(40, 512) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(norm, inputs))
    for x, out in zip(inputs, outputs, strict=True):
        torch.testing.assert_close(out, torch.nn.functional.rms_norm(x, (512,), eps=1e-6))


@pytest.mark.parametrize(("variable", "value", "threads"), [("OMP_NUM_THREADS", "3,2", 3), (_cpu.THREADS, "5", 5)])
def test_the_environment_sizes_the_team(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, threads: int
) -> None:
    monkeypatch.delenv(_cpu.THREADS, raising=False)
    monkeypatch.setenv(variable, value)
    assert _cpu._wanted_threads() == threads


def test_what_the_environment_says_badly_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_cpu.THREADS, "many")
    assert 0 <= _cpu._wanted_threads() <= len(os.sched_getaffinity(0))
