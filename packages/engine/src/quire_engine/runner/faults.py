"""What torch raises for a device that fails, under the names that the engine knows. It knows no batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from quire_engine.errors import DeviceFault
from quire_engine.runner.base import OutOfMemory

SHORTAGES = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED")
"""In messages of errors that have no class of their own: of torch's allocator for CPUs, and of cuBLAS, which needs some
memory when it is first used on a stream."""
REFUSALS = ("CUBLAS_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_NOT_SUPPORTED")
"""In messages of errors that are what was asked for, and no fault of the device."""
FAULTS = ("CUDA error", "Triton Error [CUDA]", "CUBLAS_STATUS", "CUDNN_STATUS")
"""In messages of errors after which a CUDA context computes nothing any more, or nothing that can be trusted."""


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
        words = str(error)
        if any(shortage in words for shortage in SHORTAGES):  # cuBLAS's say "CUDA error" too
            raise OutOfMemory(_first_line(error)) from error
        if any(refusal in words for refusal in REFUSALS):
            raise
        if isinstance(error, torch.AcceleratorError) or any(fault in words for fault in FAULTS):
            raise DeviceFault(f"The device failed: {_first_line(error)}") from error
        raise


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
