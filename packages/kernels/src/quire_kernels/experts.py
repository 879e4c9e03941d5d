"""`experts`: gated layers of which a router chose some for each token; knows no router and no parallel devices."""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._select import HAS_TRITON, define
from quire_kernels.gated import ACTIVATIONS, check_activation

if HAS_TRITON:
    import triton
    import triton.language as tl

    from quire_kernels._tiles import dot
    from quire_kernels.gated import activated


def experts(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    *,
    activation: str,
    invariant: bool = False,
) -> Tensor:
    """Put each token through its experts, and add up what they give by the router's weights.

    x [T, H]; gate_up [E, 2 I, H], each expert's gate before its values; down [E, H, I], of one dtype; expert_ids [T, k]
    int64; weights [T, k] -> [T, H], the sum over the k experts e of a token of
    weight * down[e] (activation(gate[e] x) * up[e] x), `activation` as `gated` has it.

    Products are summed in float32; what is between them, and each expert's share, is rounded to x's dtype. An id that
    is not in 0 .. E - 1 adds nothing: so padding is skipped, and the experts of other devices. With `invariant` the
    company of a token changes no bit of its answer.
    Raises ShapeError, DtypeError, DeviceError. Sorted by expert as in Gale et al. 2022 (MegaBlocks).
    """
    result: Tensor = _experts(x, gate_up, down, expert_ids, weights, activation, invariant)
    return result


def check(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    activation: str,
    invariant: bool,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("experts")
    checks.require("x", x, "[T, H]", *FLOATS)
    checks.require("gate_up", gate_up, "[E, 2I, H]", x.dtype)
    checks.require("down", down, "[E, H, I]", x.dtype)
    checks.require("expert_ids", expert_ids, "[T, k]", torch.int64)
    checks.require("weights", weights, "[T, k]", *FLOATS)
    checks.expect(
        checks["2I"] == 2 * checks["I"],
        f"gate_up has {checks['2I']} rows an expert and down {checks['I']} columns; pass twice as many rows, the "
        f"gate's first",
    )
    check_activation(checks, activation)


def reference(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    activation: str,
    invariant: bool,
) -> Tensor:
    """Token by token and expert by expert in float64."""
    out = x.new_zeros(x.shape, dtype=torch.float64)
    for token, ids in enumerate(expert_ids.tolist()):
        for choice, expert in enumerate(ids):
            if 0 <= expert < len(gate_up):
                gate, up = (gate_up[expert].double() @ x[token].double()).chunk(2)
                answer = down[expert].double() @ (ACTIVATIONS[activation](gate) * up)
                out[token] += weights[token, choice].double() * answer
    return out.to(x.dtype)


def cpu(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    activation: str,
    invariant: bool,
) -> Tensor:
    """Expert by expert, all of its tokens at once; or token by token, whose products have one shape in any company."""
    choices = expert_ids.shape[1]
    shares = x.new_zeros(*expert_ids.shape, x.shape[1], dtype=torch.float32)  # [T, k, H]
    chosen, order = expert_ids.flatten().sort(stable=True)
    counts = torch.unique_consecutive(chosen, return_counts=True)
    first = 0
    for expert, count in zip(*(numbers.tolist() for numbers in counts), strict=True):
        pairs, first = order[first : first + count], first + count
        if not 0 <= expert < len(gate_up):
            continue
        for part in pairs[:, None] if invariant else (pairs,):
            gate, up = linear(x[part // choices], gate_up[expert]).float().chunk(2, -1)
            inner = ACTIVATIONS[activation](gate).mul_(up).to(x.dtype)
            shares.view(-1, x.shape[1])[part] = linear(inner, down[expert]).float()
    return shares.mul_(weights[:, :, None]).sum(1).to(x.dtype)


if HAS_TRITON:

    @triton.jit
    def _tile_of(tile, bounds, EXPERTS: tl.constexpr, EXPERTS_PAD: tl.constexpr, ROWS: tl.constexpr):
        """A tile's expert, and where its sorted pairs begin and end; the end before the beginning for surplus tiles."""
        e = tl.arange(0, EXPERTS_PAD)
        begin = tl.load(bounds + e, mask=e < EXPERTS, other=0)
        end = tl.load(bounds + e + 1, mask=e < EXPERTS, other=0)
        tiles = tl.cdiv(end - begin, ROWS)
        expert = tl.sum((tl.cumsum(tiles, 0) <= tile).to(tl.int32), 0)
        before = tl.sum(tl.where(e < expert, tiles, 0), 0)
        first = tl.sum(tl.where(e == expert, begin, 0), 0) + (tile - before) * ROWS
        return expert, first, tl.sum(tl.where(e == expert, end, 0), 0)

    # One program per (tile of one expert's pairs, tile of its columns). Pairs of a token and a choice are sorted by
    # expert; bounds[e] is where expert e's begin. Tiles are numbered through all experts, so that a grid that follows
    # from shapes alone serves any choice of the router: no count is read on the host.
    @triton.jit(do_not_specialize=["choices"])
    def _gate(
        x, gate_up, inner, order, bounds, choices, x_row, w_expert, w_row,
        EXPERTS: tl.constexpr, EXPERTS_PAD: tl.constexpr, SIZE: tl.constexpr, INNER: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, ACTIVATION: tl.constexpr,
        PRECISION: tl.constexpr,
    ):  # fmt: skip
        expert, first, end = _tile_of(tl.program_id(0), bounds, EXPERTS, EXPERTS_PAD, ROWS)
        if first >= end:
            return
        pair = first + tl.arange(0, ROWS)
        token = tl.load(order + pair, mask=pair < end, other=0) // choices
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        depth = tl.arange(0, DEPTH)
        x_at = x + token[:, None] * x_row + depth[None, :]
        gate_at = gate_up + expert.to(tl.int64) * w_expert + column.to(tl.int64)[None, :] * w_row + depth[:, None]
        up_at = gate_at + (column * 0 + INNER).to(tl.int64)[None, :] * w_row
        gate = tl.zeros([ROWS, COLUMNS], tl.float32)
        up = tl.zeros([ROWS, COLUMNS], tl.float32)
        for k in range(0, SIZE, DEPTH):
            real = (column < INNER)[None, :] & (k + depth < SIZE)[:, None]
            rows = tl.load(x_at + k, mask=(pair < end)[:, None] & (k + depth < SIZE)[None, :], other=0.0)
            gate = dot(rows, tl.load(gate_at + k, mask=real, other=0.0), gate, PRECISION)
            up = dot(rows, tl.load(up_at + k, mask=real, other=0.0), up, PRECISION)
        at = inner + pair.to(tl.int64)[:, None] * INNER + column[None, :]
        answer = (activated(gate, ACTIVATION) * up).to(inner.dtype.element_ty)
        tl.store(at, answer, mask=(pair < end)[:, None] & (column < INNER)[None, :])

    # One program per (tile of one expert's pairs, tile of columns): each pair's share goes to its own row of `shares`
    # [T * k, H], so that they are added in the order of the choices, whatever the order of the programs.
    @triton.jit
    def _give(
        inner, down, weights, shares, order, bounds, w_expert, w_row,
        EXPERTS: tl.constexpr, EXPERTS_PAD: tl.constexpr, SIZE: tl.constexpr, INNER: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        expert, first, end = _tile_of(tl.program_id(0), bounds, EXPERTS, EXPERTS_PAD, ROWS)
        if first >= end:
            return
        pair = first + tl.arange(0, ROWS)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        depth = tl.arange(0, DEPTH)
        inner_at = inner + pair.to(tl.int64)[:, None] * INNER + depth[None, :]
        down_at = down + expert.to(tl.int64) * w_expert + column.to(tl.int64)[None, :] * w_row + depth[:, None]
        answer = tl.zeros([ROWS, COLUMNS], tl.float32)
        for k in range(0, INNER, DEPTH):
            rows = tl.load(inner_at + k, mask=(pair < end)[:, None] & (k + depth < INNER)[None, :], other=0.0)
            real = (column < SIZE)[None, :] & (k + depth < INNER)[:, None]
            answer = dot(rows, tl.load(down_at + k, mask=real, other=0.0), answer, PRECISION)
        place = tl.load(order + pair, mask=pair < end, other=0)
        weight = tl.load(weights + place, mask=pair < end, other=0.0).to(tl.float32)
        at = shares + place[:, None] * SIZE + column[None, :]
        real = (pair < end)[:, None] & (column < SIZE)[None, :]
        tl.store(at, (answer * weight[:, None]).to(shares.dtype.element_ty), mask=real)

    # One program per (token, part of its columns).
    @triton.jit(do_not_specialize=["choices"])
    def _add(shares, expert_ids, out, choices, ids_row, EXPERTS: tl.constexpr, SIZE: tl.constexpr, PART: tl.constexpr):
        token = tl.program_id(0).to(tl.int64)
        at = tl.program_id(1) * PART + tl.arange(0, PART)
        total = tl.zeros([PART], tl.float32)
        for choice in range(choices):
            expert = tl.load(expert_ids + token * ids_row + choice)
            if (expert >= 0) & (expert < EXPERTS):
                share = tl.load(shares + (token * choices + choice) * SIZE + at, mask=at < SIZE, other=0.0)
                total += share.to(tl.float32)
        tl.store(out + token * SIZE + at, total.to(out.dtype.element_ty), mask=at < SIZE)


class Tiling(NamedTuple):
    """How the Triton body cuts its products; follows from shapes alone."""

    rows: int  # pairs of one expert
    columns: int
    depth: int  # of a product's sums taken at once
    warps: int
    stages: int

    @classmethod
    def of(cls, dtype: torch.dtype, pairs: int, experts: int, invariant: bool) -> Self:
        """Choose for `pairs` shared evenly by `experts`; few rows leave time for nothing but reading weights."""
        usual = 64 if invariant else triton.next_power_of_2(max(1, pairs // max(1, min(pairs, experts))))
        rows = min(128, max(16, usual))
        if dtype.itemsize == 4:  # outside the tensor cores
            return cls(min(rows, 32), 32, 32, warps=4, stages=2)
        return cls(rows, 64, 64 if rows > 16 else 128, warps=8 if rows == 128 else 4, stages=4 if rows > 16 else 3)


def by_triton(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    activation: str,
    invariant: bool,
) -> Tensor:
    """Sort the pairs of a token and an expert by expert, then two products over tiles of them, then a sum."""
    tokens, size = x.shape
    count, inner_size = len(down), down.shape[2]
    choices = expert_ids.shape[1]
    pairs = tokens * choices
    if not pairs or not count or not size or not inner_size:
        return x.new_zeros(tokens, size)
    chosen, order = expert_ids.flatten().sort(stable=True)
    bounds = torch.searchsorted(chosen, torch.arange(count + 1, device=x.device), out_int32=True)  # bincount would wait
    inner = x.new_empty(pairs, inner_size)
    shares = x.new_empty(pairs, size)
    out = x.new_empty(tokens, size)

    tiling = Tiling.of(x.dtype, pairs, count, invariant)
    tiles = pairs // tiling.rows + min(pairs, count)
    shape = {"EXPERTS": count, "EXPERTS_PAD": triton.next_power_of_2(count), "SIZE": size, "INNER": inner_size}
    shape |= {"ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth}
    shape |= {"PRECISION": "ieee" if x.dtype == torch.float32 else "tf32"}
    launch = {"num_warps": tiling.warps, "num_stages": tiling.stages, "enable_fp_fusion": True}
    _gate[(tiles, triton.cdiv(inner_size, tiling.columns))](
        x, gate_up, inner, order, bounds, choices, x.stride(0), *gate_up.stride()[:2],
        **shape, **launch, ACTIVATION=activation,
    )  # fmt: skip
    _give[(tiles, triton.cdiv(size, tiling.columns))](
        inner, down, weights.contiguous(), shares, order, bounds, *down.stride()[:2], **shape, **launch
    )
    part = min(1024, triton.next_power_of_2(size))
    _add[(tokens, triton.cdiv(size, part))](
        shares, expert_ids, out, choices, expert_ids.stride(0), EXPERTS=count, SIZE=size, PART=part,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out


_experts = define(
    "experts(Tensor x, Tensor gate_up, Tensor down, Tensor expert_ids, Tensor weights, str activation, "
    "bool invariant) -> Tensor",
    check=check,
    fake=lambda x, *_: x.new_empty(x.shape),
    bodies={"reference": reference, "cpu": cpu, "triton": by_triton},
)
