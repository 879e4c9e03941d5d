"""Between host and device without waiting for either. It knows tensors, not what they mean.

A copy from or to ordinary memory makes the host wait until the device has done all that was asked of it before. Through
pinned memory it only queues behind that, which is what lets the next step be launched while this one runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def sent(values: ArrayLike, device: torch.device) -> Tensor:
    """The same numbers on `device`, in numpy's dtype for them; on a CPU possibly the same memory."""
    tensor = torch.from_numpy(np.asarray(values))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Returning:
    """Tensors on their way to the host, which set off when this is made."""

    def __init__(self, *tensors: Tensor) -> None:
        self._event: Any = None
        if tensors[0].device.type == "cuda":
            self._tensors = tuple(_fetched(tensor) for tensor in tensors)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._tensors = tensors

    def get(self) -> tuple[Tensor, ...]:
        """The tensors on the host; waits for them, and for nothing that was launched later."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors


def _fetched(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
