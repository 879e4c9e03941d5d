from collections.abc import Iterator

import pytest
import torch

from quire_kernels._select import INTERPRETED, OVERRIDE


@pytest.fixture(scope="module")
def body() -> Iterator[None]:
    """Run the body made for the CPU; test_interpreter.py runs the ops' files once more for the Triton body."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, "triton" if INTERPRETED else "cpu")
        yield


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill fresh tensors with NaN, so that an element that nobody writes is found."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
