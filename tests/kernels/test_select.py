import subprocess
import sys

import pytest
import torch

from quire_kernels import BodyError
from quire_kernels._select import INTERPRETED, OVERRIDE, choose

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WITHOUT_TRITON = "import sys; sys.modules['triton'] = None; "


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)


def test_the_device_of_the_tensors_decides() -> None:
    assert choose(CPU) == "cpu"


def test_the_environment_goes_before_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "reference")
    assert choose(CPU) == choose(CUDA) == "reference"


def test_an_unknown_body_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "tritn")
    with pytest.raises(BodyError, match="QUIRE_KERNELS=tritn names no body: set it to reference, cpu, torch or triton"):
        choose(CPU)


def test_the_cpu_body_is_not_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "cpu")
    with pytest.raises(BodyError, match="QUIRE_KERNELS=cpu, but the tensors are on cuda"):
        choose(CUDA)


def test_a_device_without_bodies_is_named() -> None:
    with pytest.raises(BodyError, match="no op has a body for tensors on mps: move them to cpu or cuda"):
        choose(torch.device("mps"))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter is on")
def test_triton_on_the_cpu_asks_for_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv(OVERRIDE, "triton")
    with pytest.raises(BodyError, match="set TRITON_INTERPRET=1 before the first import"):
        choose(CPU)


def test_the_package_works_without_triton() -> None:
    run = python(
        WITHOUT_TRITON + "import torch, quire_kernels; cache = torch.zeros(2, 8, 1, 32); row = torch.ones(1, 1, 32); "
        "quire_kernels.store_kv(row, row, cache, cache.clone(), torch.tensor([9])); print(cache[1, 1].sum().item())"
    )
    assert (run.returncode, run.stdout) == (0, "32.0\n"), run.stderr


def test_a_gpu_without_triton_is_told_what_to_install() -> None:
    run = python(
        WITHOUT_TRITON + "import torch; from quire_kernels._select import choose; choose(torch.device('cuda'))"
    )
    assert "BodyError: tensors on cuda need triton, which is not installed: pip install 'quire-kernels[triton]'" in (
        run.stderr
    )
