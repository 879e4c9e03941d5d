from collections.abc import Iterator

import pytest
import torch

from quire_kernels._select import INTERPRETED, OVERRIDE

BODIES = ["triton"] if INTERPRETED else ["cpu", "torch"]


@pytest.fixture(scope="module", params=BODIES)
def body(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the CPU's bodies, its library's and torch's; test_interpreter.py runs the files once more for Triton's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, request.param)
        yield


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill fresh tensors with NaN, so that an element that nobody writes is found."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
