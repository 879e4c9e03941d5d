import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quire_kernels._select import HAS_TRITON, INTERPRETED

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed"),
    pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing"),
]


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the compiler made of every case for Hopper, by name."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    command = [sys.executable, "-m", "tests.support.hopper"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("decode", "mma.sync"),
        ("decode, split", "mma.sync"),
        ("prefill", "wgmma.mma_async"),
        ("invariant, split", "wgmma.mma_async"),
    ],
)
def test_attention_on_hopper_uses_tensor_cores_and_loads_ahead(
    codes: dict[str, dict[str, Any]], name: str, product: str
) -> None:
    assert codes[name][product]
    assert codes[name]["cp.async"]
    assert codes[name]["shared"] <= 114 * 1024  # half of what a processor has: two programs fit


def test_no_body_on_hopper_keeps_more_than_a_few_words_beside_its_registers(codes: dict[str, dict[str, Any]]) -> None:
    assert {name: code["STACK"] for name, code in codes.items() if code["STACK"] > 32} == {}
