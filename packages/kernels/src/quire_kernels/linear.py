"""`linear`: products with a weight that was packed once, on the CPU; knows layouts and rounding of weights, no models.

On CUDA torch's own product is as good as any, so there is no body for it: a model keeps its nn.Linear there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from quire_kernels import _cpu, _pages
from quire_kernels._checks import FLOATS, Checks, DeviceError, DtypeError
from quire_kernels._select import define

BLOCK: Final = 16  # columns (outputs) that stand together
KINDS: Final = ("float32", "bfloat16", "float16", "int8", "int4")  # in the order of QuireKind of csrc/cpu/ops.h
ACTIVATIONS: Final = ("", "silu", "gelu", "gelu_tanh")  # of QuireGate
GROUPS: Final = (32, 64)
FLOAT_KINDS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class PackedLinear:
    """A weight [n, k] and its bias [n], as `linear` reads them. `pack_linear` makes one; it owns its memory.

    `kind` is how numbers are stored: float32, bfloat16, float16, int8 or int4. `activation` is "" or what is applied to
    the gate of a weight [2 n, k], the gate's rows first: out = activation(gate) * up.
    """

    weight: Tensor  # [bytes] uint8, the layout of QuireKind in csrc/cpu/ops.h
    scales: Tensor | None  # [blocks * 16] float32, of int8
    bias: Tensor | None  # [blocks * 16] float32
    n: int
    k: int
    kind: str
    group: int
    activation: str

    @property
    def numbers(self) -> int:
        """Numbers in the weight."""
        return self.n * self.k * (2 if self.activation else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        return sum(each.nbytes for each in (self.weight, self.scales, self.bias) if each is not None)


def pack_linear(
    weight: Tensor, bias: Tensor | None = None, *, kind: str | None = None, group: int = 32, activation: str = ""
) -> PackedLinear:
    """Copy a weight into the layout that `linear` reads.

    weight [N, K] of float32, float16 or bfloat16, on the CPU; bias [N] of any of them. `kind` is the weight's own dtype
    unless it is named: "int8" is symmetric per output row, "int4" per `group` of 32 or 64 inputs, the group's largest
    magnitude at -8, its scale a bfloat16. With an `activation` ("silu", "gelu", "gelu_tanh") the first half of the rows
    is a gate, and N is even.
    Raises ShapeError, DtypeError, DeviceError.
    """
    checks = Checks("pack_linear")
    checks.require("weight", weight, "[N, K]", *FLOATS)
    if bias is not None:
        checks.require("bias", bias, "[N]", *FLOATS)
    _expect_cpu("pack_linear", weight)
    kind = str(weight.dtype).removeprefix("torch.") if kind is None else kind
    checks.expect(kind in KINDS, f"kind is {kind!r}; pass one of {', '.join(KINDS)}")
    checks.expect(group in GROUPS, f"group is {group}; pass 32 or 64")
    checks.expect(activation in ACTIVATIONS, f"activation is {activation!r}; pass one of {', '.join(ACTIVATIONS[1:])}")
    rows, k = weight.shape
    checks.expect(rows > 0 and k > 0, f"weight has shape {list(weight.shape)}; pass one that is not empty")
    checks.expect(
        not activation or rows % 2 == 0, f"weight has {rows} rows; a gate and what it opens have the same number"
    )
    if kind in FLOAT_KINDS:
        weight = weight.to(FLOAT_KINDS[kind])
    packing = _Packing(rows // 2 if activation else rows, k, kind, group, bool(activation))
    packed, scales = (_pack if _cpu.library is None else _pack_natively)(weight, packing)
    spread = None if bias is None else packing.spread(bias.float()[:, None])[..., 0].flatten().contiguous()
    return PackedLinear(packed, scales, spread, packing.n, k, kind, group, activation)


def linear(x: Tensor, packed: PackedLinear, *, dtype: torch.dtype | None = None, invariant: bool = False) -> Tensor:
    """Multiply rows with a packed weight: x weight^T + bias, or activation(gate) * up of it.

    x [T, K] of float32, float16 or bfloat16 -> [T, N] of `dtype`, x's own unless it is named. Summed in float32, in an
    order that depends on K only. A bfloat16 weight sees x rounded to bfloat16, an integer one to 8 bits of the largest
    element of every `group` (int8: 32) inputs; float32 and float16 ones see it as it is.
    A row's result depends on no other row, except on processors with AMX, which take another path for more than two
    rows (bfloat16, and int8, with x rounded to 15 bits of its row) or fifteen (int4, with bfloat16 weights):
    `invariant` keeps to one path.
    Raises ShapeError, DtypeError, DeviceError.
    """
    result: Tensor = _linear(
        x, packed.weight, packed.scales, packed.bias, packed.n, packed.k,
        packed.kind, packed.group, packed.activation, dtype or x.dtype, invariant,
    )  # fmt: skip
    return result


def is_native() -> bool:
    """Whether the CPU library multiplies; without it the reference does, slowly."""
    return _cpu.library is not None


def unpack(packed: PackedLinear) -> Tensor:
    """[N, K] float32, with a gate [2 N, K]: what a packed weight stands for, rounding included."""
    return _unpack(
        packed.weight, packed.scales, _Packing(packed.n, packed.k, packed.kind, packed.group, bool(packed.activation))
    )


@dataclass(frozen=True, slots=True)
class _Packing:
    """The shape of a packed weight: the arithmetic of csrc/cpu/ops.h."""

    n: int
    k: int
    kind: str
    group: int
    gated: bool

    @property
    def blocks(self) -> int:
        """Blocks of 16 columns; those of a gate and of what it opens take turns."""
        return -(-self.n // BLOCK) * (2 if self.gated else 1)

    @property
    def padded(self) -> int:
        """K with the zeros at its end."""
        grain = {"int8": 64, "int4": 2 * self.group}.get(self.kind, 32)
        return -(-self.k // grain) * grain

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        if self.kind == "int4":
            return self.padded // self.group * (32 + self.group * 8)  # a scale of 16 columns, and their halves of bytes
        return self.padded * BLOCK * {"float32": 4, "int8": 1}.get(self.kind, 2)

    def spread(self, rows: Tensor) -> Tensor:
        """[blocks, 16, k]: rows [N, k] or [2 N, k] in the order of packed columns, zeros where there are none."""
        halves = rows.view(-1, self.n, rows.shape[1])  # [1 or 2, n, k]
        whole = F.pad(halves, (0, 0, 0, -self.n % BLOCK))
        turns = whole.view(whole.shape[0], -1, BLOCK, rows.shape[1])
        return turns.transpose(0, 1).flatten(0, 1)

    def gather(self, columns: Tensor) -> Tensor:
        """[N, k] or [2 N, k] from [blocks, 16, k]: `spread` undone."""
        turns = columns.view(-1, 2 if self.gated else 1, BLOCK, columns.shape[2])
        halves = turns.transpose(0, 1).flatten(1, 2)
        return halves[:, : self.n].flatten(0, 1)


def _pack(weight: Tensor, packing: _Packing) -> tuple[Tensor, Tensor | None]:
    """In plain torch: what the layouts are. [bytes] uint8, and int8's scales."""
    columns = F.pad(packing.spread(weight), (0, packing.padded - packing.k))  # [blocks, 16, K]
    scales = None
    if packing.kind == "int4":
        return _pack_int4(columns.float(), packing.group), None
    if packing.kind == "int8":
        largest = columns.float().abs().amax(-1)
        scales = (largest / 127).flatten()
        inverse = torch.where(largest > 0, torch.full_like(largest, 127) / largest, 0)  # 127 / x would round twice
        columns = (columns.float() * inverse[..., None]).round().clamp(-127, 127).to(torch.int8)
    together = {"bfloat16": 2, "int8": 4}.get(packing.kind, 1)
    laid_out = (
        columns.view(*columns.shape[:2], -1, together).transpose(1, 2).contiguous()
    )  # [blocks, K / together, 16, ...]
    return laid_out.flatten().view(torch.uint8), scales


def _pack_int4(columns: Tensor, group: int) -> Tensor:
    groups = columns.view(*columns.shape[:2], -1, group).transpose(1, 2)  # [blocks, K / group, 16, group]
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = (peak / -8).bfloat16()
    inverse = torch.where(scale != 0, 1 / scale.float(), 0)
    steps = ((groups * inverse).round().clamp(-8, 7) + 8).to(torch.uint8)
    fours = steps.view(*groups.shape[:3], -1, 2, 4)  # [blocks, groups, 16, eight, four, 4]
    halves = (fours[..., 1, :] * 16 + fours[..., 0, :]).transpose(2, 3).reshape(len(groups), -1, 16 * group)
    head = scale[..., 0].contiguous().view(torch.uint8).view(len(groups), -1, 64)  # [blocks, pairs of groups, 64]
    return torch.cat([head, halves], dim=-1).flatten()


def _unpack(weight: Tensor, scales: Tensor | None, packing: _Packing) -> Tensor:
    """[N, K] float32, or [2 N, K] with a gate."""
    if packing.kind == "int4":
        columns = _unpack_int4(weight.view(packing.blocks, -1, 64 + packing.group * 16), packing.group)
    else:
        together = {"bfloat16": 2, "int8": 4}.get(packing.kind, 1)
        stored = weight.view(FLOAT_KINDS.get(packing.kind, torch.int8))
        columns = stored.view(packing.blocks, -1, BLOCK, together).transpose(1, 2).flatten(2).float()
    if scales is not None:
        columns = columns * scales.view(-1, BLOCK, 1)
    return packing.gather(columns)[:, : packing.k]


def _unpack_int4(records: Tensor, group: int) -> Tensor:
    scale = records[..., :64].contiguous().view(torch.bfloat16).view(len(records), -1, BLOCK).float()
    halves = records[..., 64:].reshape(*scale.shape[:2], group // 8, BLOCK, 4).transpose(2, 3)
    steps = torch.stack([halves & 15, halves >> 4], dim=-2).flatten(3).float() - 8  # [blocks, groups, 16, group]
    return (steps * scale[..., None]).transpose(1, 2).flatten(2)


def _pack_natively(weight: Tensor, packing: _Packing) -> tuple[Tensor, Tensor | None]:
    assert _cpu.library is not None
    packed = _pages.allocate(packing.blocks * packing.block_bytes)
    scales = torch.empty(packing.blocks * BLOCK) if packing.kind == "int8" else None
    weight = weight if weight.stride(1) == 1 else weight.contiguous()
    op = _cpu.PackLinear(
        packed=packed.data_ptr(), scales=_cpu.pointer(scales), weight=weight.data_ptr(),
        n=packing.n, k=packing.k, weight_stride=weight.stride(0), weight_type=_cpu.TYPES[weight.dtype],
        kind=KINDS.index(packing.kind), group=packing.group, gate=int(packing.gated),
    )  # fmt: skip
    _cpu.library.run("pack_linear", op)
    return packed, scales


def check(
    x: Tensor, weight: Tensor, scales: Tensor | None, bias: Tensor | None, n: int, k: int,
    kind: str, group: int, activation: str, dtype: torch.dtype, invariant: bool,
) -> None:  # fmt: skip
    """Refuse arguments that do not fit together."""
    checks = Checks("linear")
    checks.require("x", x, "[T, K]", *FLOATS)
    checks.expect(checks["K"] == k, f"x has {checks['K']} columns; the weight was packed for {k}")
    if dtype not in FLOATS:
        raise DtypeError(f"linear: dtype is {dtype}; pass one of {', '.join(map(str, FLOATS))}")
    checks.require("packed.weight", weight, "[bytes]", torch.uint8)
    _expect_cpu("linear", x)


def _expect_cpu(op: str, tensor: Tensor) -> None:
    if tensor.device.type not in ("cpu", "meta"):
        raise DeviceError(f"{op}: packed weights are for the CPU, and this is on {tensor.device}; use torch's linear")


def reference(
    x: Tensor, weight: Tensor, scales: Tensor | None, bias: Tensor | None, n: int, k: int,
    kind: str, group: int, activation: str, dtype: torch.dtype, invariant: bool,
) -> Tensor:  # fmt: skip
    """With the weight unpacked, in float64."""
    packing = _Packing(n, k, kind, group, bool(activation))
    out = x.double() @ _unpack(weight, scales, packing).double().T
    if bias is not None:
        out = out + packing.gather(bias.view(-1, BLOCK, 1))[:, 0]
    if activation:
        gate, up = out.chunk(2, dim=-1)
        opened = F.silu(gate) if activation == "silu" else F.gelu(gate, approximate=_APPROXIMATION[activation])
        out = opened * up
    return out.to(dtype)


_APPROXIMATION: Final = {"gelu": "none", "gelu_tanh": "tanh"}


def cpu(
    x: Tensor, weight: Tensor, scales: Tensor | None, bias: Tensor | None, n: int, k: int,
    kind: str, group: int, activation: str, dtype: torch.dtype, invariant: bool,
) -> Tensor:  # fmt: skip
    """By the CPU library; without it as the reference does it, which is slow."""
    library = _cpu.library
    if library is None:
        return reference(x, weight, scales, bias, n, k, kind, group, activation, dtype, invariant)
    rows = x.shape[0]
    out = torch.empty(rows, n, dtype=dtype)
    op = _cpu.Linear(
        out=out.data_ptr(), x=x.data_ptr(), weight=weight.data_ptr(),
        scales=_cpu.pointer(scales), bias=_cpu.pointer(bias),
        rows=rows, n=n, k=k, x_stride=x.stride(0), out_stride=n, x_type=_cpu.TYPES[x.dtype], out_type=_cpu.TYPES[dtype],
        kind=KINDS.index(kind), group=group, gate=ACTIVATIONS.index(activation), invariant=invariant,
    )  # fmt: skip
    op.scratch = library.scratch_of("linear", op).data_ptr()
    library.run("linear", op)
    return out


def fake(
    x: Tensor, weight: Tensor, scales: Tensor | None, bias: Tensor | None, n: int, k: int,
    kind: str, group: int, activation: str, dtype: torch.dtype, invariant: bool,
) -> Tensor:  # fmt: skip
    """The result's shape."""
    return x.new_empty(x.shape[0], n, dtype=dtype)


_linear = define(
    "linear(Tensor x, Tensor weight, Tensor? scales, Tensor? bias, int n, int k, "
    "str kind, int group, str activation, ScalarType dtype, bool invariant) -> Tensor",
    check=check,
    fake=fake,
    bodies={"reference": reference, "cpu": cpu, "torch": reference},
)
