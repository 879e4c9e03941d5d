"""What torch raises is told apart by what can be done about it: less at a time, another request, another engine."""

from __future__ import annotations

import pytest

from quire_engine.errors import DeviceFault
from quire_engine.runner.base import OutOfMemory
from quire_engine.runner.faults import named_faults


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("CUDA error: an illegal memory access was encountered", DeviceFault),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", DeviceFault),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", DeviceFault),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", OutOfMemory),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", OutOfMemory),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", RuntimeError),
        ("The size of tensor a (3) must match the size of tensor b (4)", RuntimeError),
    ],
)
def test_an_error_is_named_by_what_it_says(words: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, named_faults():
        raise RuntimeError(words)
    assert type(caught.value) is kind
