from collections.abc import Iterator

import pytest
import torch
from tests.support.native import ISAS, library_or_skip

from quire_kernels._select import INTERPRETED, OVERRIDE

BODIES = ["triton"] if INTERPRETED else ["torch", *ISAS]


@pytest.fixture(scope="module", params=BODIES)
def body(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the CPU's bodies: torch's, and the library's on each instruction set, by three threads.

    test_interpreter.py runs the files once more for Triton's.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, "cpu" if request.param in ISAS else request.param)
        if request.param not in ISAS:
            yield
            return
        for library in library_or_skip():
            library.use_isa(request.param)
            library.set_threads(3)
            yield


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill fresh tensors with NaN, so that an element that nobody writes is found."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
