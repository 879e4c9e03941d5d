import os
import subprocess
import sys
from pathlib import Path

import pytest

from quire_kernels._select import HAS_TRITON, INTERPRETED

HERE = Path(__file__).parent
OPS = ("draw", "experts", "gated", "paged_attention", "penalties", "rms_norm", "rotary", "store_kv")


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
@pytest.mark.skipif(INTERPRETED, reason="already in the interpreter")
@pytest.mark.parametrize("op", OPS)
def test_the_triton_body_passes_its_op_s_tests_in_the_interpreter(op: str) -> None:
    """In a process of its own: Triton reads the switch when it meets a kernel, which is at import."""
    # Triton 3.6 makes ints of one-element arrays: numpy warned of that up to 2.3 and refuses it since.
    allow = ["-W", "ignore:Conversion of an array:DeprecationWarning"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *allow, str(HERE / f"test_{op}.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    if "only 0-dimensional arrays can be converted" in run.stdout:
        pytest.skip("this triton's interpreter needs numpy below 2.4")
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
