"""What torch raises for a device that fails, under the names that the engine knows. It knows no batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from quire_engine.errors import DeviceFault
from quire_engine.runner.base import OutOfMemory

FAULTS = ("CUDA error", "Triton Error [CUDA]", "CUBLAS_STATUS", "CUDNN_STATUS")
"""In messages of errors after which a CUDA context computes nothing any more, or nothing that can be trusted."""
SHORTAGE = "can't allocate memory"
"""In the message of torch's allocator for CPUs, which has no class of its own for it."""


@contextmanager
def named_faults() -> Iterator[None]:
    """OutOfMemory and DeviceFault instead of torch's own errors; all others as they are."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what is left may lie in pieces of the wrong sizes
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if isinstance(error, torch.AcceleratorError) or any(fault in str(error) for fault in FAULTS):
            raise DeviceFault(f"The device failed: {_first_line(error)}") from error
        if SHORTAGE in str(error):
            raise OutOfMemory(_first_line(error)) from error
        raise


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
