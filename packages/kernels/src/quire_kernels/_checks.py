"""Checks of an op's arguments; knows how to name what is wrong, not what the ops compute."""

from functools import cache

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FLOAT8 = torch.float8_e4m3fn  # what caches may hold instead


class KernelError(Exception):
    """An op of quire_kernels cannot run as it was called."""


class ShapeError(KernelError, ValueError):
    """A tensor's shape does not fit its place among the arguments, or a number is out of its range."""


class DtypeError(KernelError, TypeError):
    """A tensor's dtype is not one that the op takes at this place."""


class DeviceError(KernelError, ValueError):
    """The tensors of one call lie on different devices."""


class Checks:
    """The arguments of one call: a name in a shape stands for one size, bound where it is first met."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.sizes: dict[str, tuple[int, str]] = {}  # "Hkv" -> (8, "keys"): the size and who brought it
        self.device: tuple[torch.device, str] | None = None

    def require(self, name: str, tensor: Tensor, shape: str, *dtypes: torch.dtype) -> None:
        """Hold `tensor` to a shape such as "[S+1, D]", one of `dtypes`, dense rows and the device of those before."""
        if tensor.dtype not in dtypes:
            allowed = " or ".join(str(dtype) for dtype in dtypes)
            raise DtypeError(f"{self.op}: {name} is {tensor.dtype}; pass {allowed}")
        device, owner = self.device = self.device or (tensor.device, name)
        if tensor.device != device:
            raise DeviceError(f"{self.op}: {name} is on {tensor.device}, but {owner} is on {device}; move one of them")
        dims = _parse(shape)
        if tensor.dim() != len(dims):
            raise ShapeError(f"{self.op}: {name} has shape {list(tensor.shape)}; pass {shape}")
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ShapeError(
                f"{self.op}: {name} has stride {tensor.stride(-1)} in its last dimension; pass it with stride 1, "
                f"as {name}.contiguous() has it"
            )
        for (dim, extra), size in zip(dims, tensor.shape, strict=True):
            bound, owner = self.sizes.setdefault(dim, (size - extra, name))
            if size != bound + extra:
                raise ShapeError(
                    f"{self.op}: {name} has shape {list(tensor.shape)}, read as {shape}, "
                    f"but {owner} makes {dim} {bound}; pass {bound + extra} where {size} stands"
                )

    def expect(self, holds: bool, problem: str) -> None:
        """Refuse the call with `problem` unless the condition holds."""
        if not holds:
            raise ShapeError(f"{self.op}: {problem}")

    def __getitem__(self, dim: str) -> int:
        """Return the size that the tensors seen so far agree on."""
        return self.sizes[dim][0]


@cache
def _parse(shape: str) -> tuple[tuple[str, int], ...]:
    """Split "[S+1, D]" into (("S", 1), ("D", 0))."""
    dims = (dim.strip().partition("+") for dim in shape.strip("[]").split(","))
    return tuple((name, int(extra or 0)) for name, _, extra in dims)


def require_float8(held: Tensor) -> None:
    """Refuse a cache of float8 on a GPU that cannot convert it: Triton's kernels do so from Ada and Hopper on."""
    if held.dtype == FLOAT8 and held.is_cuda and (found := _capability(held.device)) < (8, 9):
        raise DtypeError(
            f"{FLOAT8} needs a GPU of compute capability 8.9 or above, but {held.device} has {found[0]}.{found[1]}; "
            f"pass a cache of the queries' dtype"
        )


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
