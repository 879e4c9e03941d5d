"""`gated`: the product of an activated gate and its values; knows the activations, not the layers around them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from torch import Tensor
from torch.nn import functional

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._cpu import TYPES, Gated, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl

ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}


def gated(gate_up: Tensor, *, activation: str) -> Tensor:
    """Multiply the second half of each row by the activated first half.

    gate_up [T, 2 I], the gate's columns first -> [T, I], activation(gate) * up, computed in float32 and rounded once.
    `activation` is "silu", "gelu" (by the error function) or "gelu_tanh".
    Raises ShapeError, DtypeError. After Shazeer 2020 (GLU variants).
    """
    result: Tensor = _gated(gate_up, activation)
    return result


def check(gate_up: Tensor, activation: str) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("gated")
    checks.require("gate_up", gate_up, "[T, 2I]", *FLOATS)
    checks.expect(
        checks["2I"] % 2 == 0,
        f"gate_up has {checks['2I']} columns; pass an even number, the gate's first and as many values after them",
    )
    check_activation(checks, activation)


def check_activation(checks: Checks, activation: str) -> None:
    """Refuse an activation that is not in the table."""
    known = ", ".join(ACTIVATIONS)
    checks.expect(activation in ACTIVATIONS, f"activation is {activation!r}; pass one of {known}")


def reference(gate_up: Tensor, activation: str) -> Tensor:
    """As the docstring of `gated` says it, in float64."""
    gate, up = gate_up.double().chunk(2, -1)
    return (ACTIVATIONS[activation](gate) * up).to(gate_up.dtype)


def by_torch(gate_up: Tensor, activation: str) -> Tensor:
    """The same in float32."""
    gate, up = gate_up.chunk(2, -1)
    return ACTIVATIONS[activation](gate.float()).mul_(up).to(gate_up.dtype)


def by_library(gate_up: Tensor, activation: str) -> Tensor:
    """One call of csrc/cpu/heads.h."""
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, size)
    gate, kind = list(ACTIVATIONS).index(activation) + 1, TYPES[gate_up.dtype]  # QuireGate begins with none
    assert library is not None
    library.run("gated", Gated(pointer(out), pointer(gate_up), rows, size, gate_up.stride(0), gate, kind))
    return out


def cpu(gate_up: Tensor, activation: str) -> Tensor:
    """By the library where there is one."""
    return (by_torch if library is None else by_library)(gate_up, activation)


if HAS_TRITON:

    @triton.jit
    def activated(x, ACTIVATION: tl.constexpr):
        """The activation of x in float32; tanh(y) is written 2 sigmoid(2 y) - 1."""
        if ACTIVATION == "silu":
            return x * tl.sigmoid(x)
        elif ACTIVATION == "gelu":  # noqa: RET505 - Triton folds an elif of constants, not a second if after a return
            return x * 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        else:
            return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))

    # One program per (row, part of its columns).
    @triton.jit
    def _gate(gate_up, out, row_stride, SIZE: tl.constexpr, PART: tl.constexpr, ACTIVATION: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        at = tl.program_id(1) * PART + tl.arange(0, PART)
        gate_at = gate_up + row * row_stride + at
        gate = tl.load(gate_at, mask=at < SIZE, other=0.0).to(tl.float32)
        up = tl.load(gate_at + SIZE, mask=at < SIZE, other=0.0).to(tl.float32)
        tl.store(out + row * SIZE + at, (activated(gate, ACTIVATION) * up).to(out.dtype.element_ty), mask=at < SIZE)


def by_triton(gate_up: Tensor, activation: str) -> Tensor:
    """Launch over rows and parts of their columns."""
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, size)
    part = min(1024, triton.next_power_of_2(max(size, 1)))  # eight elements a thread: a load of 16 bytes in 16 bits
    if rows and size:
        _gate[(rows, triton.cdiv(size, part))](
            gate_up, out, gate_up.stride(0), SIZE=size, PART=part, ACTIVATION=activation,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return out


_gated = define(
    "gated(Tensor gate_up, str activation) -> Tensor",
    check=check,
    fake=lambda gate_up, _: gate_up.new_empty(gate_up.shape[0], gate_up.shape[1] // 2),
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
