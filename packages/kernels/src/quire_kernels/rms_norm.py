"""`rms_norm` and `add_rms_norm`: root mean square norms of rows, after a residual too; knows no layers."""

import torch
from torch import Tensor

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._cpu import TYPES, RmsNorm, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
    """Divide each row by its root mean square, and weigh its columns.

    x [T, H]; weight [H], of one dtype -> [T, H], x / sqrt(mean(x^2) + eps) * (weight + offset), computed in float32
    and rounded once. `offset` is 1 for families that store their weights around zero (Gemma).
    Raises ShapeError, DtypeError, DeviceError. After Zhang and Sennrich 2019.
    """
    result: Tensor = _rms_norm(x, weight, eps, offset)
    return result


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
    """Add x [T, H] to the residual [T, H] in place, and return the `rms_norm` of the sum, as rounded to its dtype."""
    result: Tensor = _add_rms_norm(x, residual, weight, eps, offset)
    return result


def check(x: Tensor, weight: Tensor, eps: float, offset: float) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("rms_norm")
    checks.require("x", x, "[T, H]", *FLOATS)
    checks.require("weight", weight, "[H]", x.dtype)
    checks.expect(eps >= 0, f"eps is {eps}; pass zero or a small positive number")


def check_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("add_rms_norm")
    checks.require("x", x, "[T, H]", *FLOATS)
    checks.require("residual", residual, "[T, H]", x.dtype)
    checks.require("weight", weight, "[H]", x.dtype)
    checks.expect(eps >= 0, f"eps is {eps}; pass zero or a small positive number")


def reference(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """As the docstring of `rms_norm` says it, in float64."""
    row = x.double()
    root = (row.square().mean(-1, keepdim=True) + eps).sqrt()
    return (row / root * (weight.double() + offset)).to(x.dtype)


def reference_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """The sum, then the norm."""
    residual += x
    return reference(residual, weight, eps, offset)


def by_torch(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """By torch's own norm."""
    scale = weight.float() + offset if offset else weight.float()
    return torch.nn.functional.rms_norm(x.float(), weight.shape, scale, eps).to(x.dtype)


def by_torch_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """The sum, then the norm."""
    return by_torch(residual.add_(x), weight, eps, offset)


def by_library(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float) -> Tensor:
    """One call of csrc/cpu/norms.h."""
    rows, size = x.shape
    out = x.new_empty(rows, size)
    tensors = map(pointer, (out, x, residual, weight))
    assert library is not None
    library.run("rms_norm", RmsNorm(*tensors, rows, size, x.stride(0), eps, offset, TYPES[x.dtype]))
    return out


def cpu(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """By the library where there is one."""
    return by_torch(x, weight, eps, offset) if library is None else by_library(x, None, weight, eps, offset)


def cpu_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """By the library where there is one, for residuals in one piece."""
    body = by_torch_add if library is None or not residual.is_contiguous() else by_library
    return body(x, residual, weight, eps, offset)


if HAS_TRITON:
    # One program per row, which stays in its registers: read once, written once.
    @triton.jit
    def _norm(
        x, residual, weight, out, eps, offset, x_row, r_row,
        SIZE: tl.constexpr, PAD: tl.constexpr, ADD: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        at = tl.arange(0, PAD)
        real = at < SIZE
        value = tl.load(x + row * x_row + at, mask=real, other=0.0)
        if ADD:
            place = residual + row * r_row + at
            before = tl.load(place, mask=real, other=0.0)
            value = (before.to(tl.float32) + value.to(tl.float32)).to(before.dtype)
            tl.store(place, value, mask=real)
        value = value.to(tl.float32)
        root = tl.sqrt(tl.sum(value * value, 0) / SIZE + eps)
        scale = tl.load(weight + at, mask=real, other=0.0).to(tl.float32) + offset
        tl.store(out + row * SIZE + at, (value / root * scale).to(out.dtype.element_ty), mask=real)


def by_triton(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """Launch over rows."""
    return _launch(x, None, weight, eps, offset)


def by_triton_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """Launch over rows."""
    return _launch(x, residual, weight, eps, offset)


def _launch(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float) -> Tensor:
    rows, size = x.shape
    out = x.new_empty(rows, size)
    pad = triton.next_power_of_2(size)
    if rows and size:
        _norm[(rows,)](
            x, residual, weight, out, eps, offset, x.stride(0), 0 if residual is None else residual.stride(0),
            SIZE=size, PAD=pad, ADD=residual is not None,
            num_warps=min(16, max(1, pad // 1024)),  # 32 elements a thread: four loads of 16 bytes in 16 bits
            enable_fp_fusion=True,
        )  # fmt: skip
    return out


_rms_norm = define(
    "rms_norm(Tensor x, Tensor weight, float eps, float offset) -> Tensor",
    check=check,
    fake=lambda x, *_: x.new_empty(x.shape),
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
_add_rms_norm = define(
    "add_rms_norm(Tensor x, Tensor(a!) residual, Tensor weight, float eps, float offset) -> Tensor",
    check=check_add,
    fake=lambda x, *_: x.new_empty(x.shape),
    bodies={"reference": reference_add, "cpu": cpu_add, "torch": by_torch_add, "triton": by_triton_add},
)
