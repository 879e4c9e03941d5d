import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quire_kernels._select import HAS_TRITON, INTERPRETED

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(("queries", "product"), [(1, "mma.sync"), (512, "wgmma.mma_async")])
def test_attention_on_hopper_uses_tensor_cores_and_loads_ahead(queries: int, product: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.hopper", str(queries)]
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    code = json.loads(run.stdout)
    assert code[product]
    assert code["cp.async"]
    assert code["shared"] <= 114 * 1024  # half of what a processor has: two programs fit
