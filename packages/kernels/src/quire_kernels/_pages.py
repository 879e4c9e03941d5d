"""Memory on pages of 2 MiB, for weights that are read from end to end; knows the operating system, not what it holds.

A pass over weights on pages of 4 KiB spends a fifth of its time on finding where they lie.
"""

import mmap
from contextlib import suppress
from typing import Final

import torch
from torch import Tensor

HUGE: Final = 2 << 20


def allocate(size: int) -> Tensor:
    """`size` bytes [size] uint8, not yet written, from a boundary of 64 bytes on; freed with the tensor."""
    whole = size // HUGE * HUGE
    if not whole or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    memory = mmap.mmap(-1, size + HUGE)
    tensor = torch.frombuffer(memory, dtype=torch.uint8)  # keeps the mapping alive
    begin = -tensor.data_ptr() % HUGE
    with suppress(OSError):  # a kernel may have been built without them
        memory.madvise(
            mmap.MADV_HUGEPAGE, begin, whole
        )  # what is left after whole pages takes small ones, not one more
    return tensor[begin : begin + size]
