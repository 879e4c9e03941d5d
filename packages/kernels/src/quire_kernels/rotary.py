"""`rotary`: turns queries and keys by their positions; knows angles, not where a model's frequencies come from."""

from typing import Any

import torch
from torch import Tensor

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._cpu import TYPES, WIDEST_HEAD, Rotary, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def rotary(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    q_weight: Tensor | None = None,
    k_weight: Tensor | None = None,
    eps: float = 0.0,
    offset: float = 0.0,
) -> None:
    """Turn the pairs of each head's dimensions by their token's angles, in place.

    q [T, Hq, D], k [T, Hkv, D], of one dtype; cos, sin [T, R/2] float32, R <= D. The pair of dimension i < R/2 is
    i + R/2, as transformers' `rotate_half` has it: (a, b) becomes (a cos - b sin, b cos + a sin). Dimensions from R on
    keep their value. With q_weight [D] or k_weight [D] each head of q or of k is first put through `rms_norm` over its
    D dimensions with that weight, `eps` and `offset`. Computed in float32 and rounded once.
    Raises ShapeError, DtypeError, DeviceError. After Su et al. 2021 (RoFormer).
    """
    _rotary(q, k, cos, sin, q_weight, k_weight, eps, offset)


def check(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
    offset: float,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("rotary")
    checks.require("q", q, "[T, Hq, D]", *FLOATS)
    checks.require("k", k, "[T, Hkv, D]", q.dtype)
    checks.require("cos", cos, "[T, R/2]", torch.float32)
    checks.require("sin", sin, "[T, R/2]", torch.float32)
    if q_weight is not None:
        checks.require("q_weight", q_weight, "[D]", q.dtype)
    if k_weight is not None:
        checks.require("k_weight", k_weight, "[D]", q.dtype)
    checks.expect(
        0 < 2 * checks["R/2"] <= checks["D"],
        f"cos turns {checks['R/2']} pairs of dimensions, but a head has {checks['D']}; pass from 1 to half of that",
    )
    checks.expect(eps >= 0, f"eps is {eps}; pass zero or a small positive number")


def reference(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
    offset: float,
) -> None:
    """Norm, then pair by pair, in float64."""
    half = cos.shape[1]
    for heads, weight in ((q, q_weight), (k, k_weight)):
        x = heads.double()
        if weight is not None:
            x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (weight.double() + offset)
        turned = x.clone()
        for pair in range(half):
            c, s = cos[:, pair, None].double(), sin[:, pair, None].double()  # [T, 1]
            a, b = x[:, :, pair], x[:, :, pair + half]  # [T, H]
            turned[:, :, pair] = a * c - b * s
            turned[:, :, pair + half] = b * c + a * s
        heads.copy_(turned)


def by_torch(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
    offset: float,
) -> None:
    """All pairs at once."""
    half = cos.shape[1]
    cos, sin = cos[:, None], sin[:, None]  # [T, 1, R/2]
    for heads, weight in ((q, q_weight), (k, k_weight)):
        x = heads.float()
        if weight is not None:
            x = torch.nn.functional.rms_norm(x, weight.shape, weight.float() + offset, eps)
            heads[:, :, 2 * half :] = x[:, :, 2 * half :]
        a, b = x[:, :, :half], x[:, :, half : 2 * half]
        turned = a * cos - b * sin, b * cos + a * sin
        heads[:, :, :half], heads[:, :, half : 2 * half] = turned


def by_library(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
    offset: float,
) -> None:
    """One call of csrc/cpu/heads.h."""
    tokens, q_heads, size = q.shape
    op = Rotary(
        *map(pointer, (q, k, cos, sin, q_weight, k_weight)), tokens, q_heads, k.shape[1], size, cos.shape[1],
        *q.stride()[:2], *k.stride()[:2], cos.stride(0), sin.stride(0), eps, offset, TYPES[q.dtype],
    )  # fmt: skip
    assert library is not None
    library.run("rotary", op)


def cpu(q: Tensor, *rest: Any) -> None:
    """By the library where there is one, but for enormous heads."""
    body = by_torch if library is None or q.shape[2] > WIDEST_HEAD else by_library
    body(q, *rest)


if HAS_TRITON:

    @triton.jit
    def _turn(
        x, cos, sin, weight, eps, offset, token, part, x_token, x_head, c_token, s_token,
        HEADS: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr, HALF_PAD: tl.constexpr, REST_PAD: tl.constexpr,
        PART: tl.constexpr, NORM: tl.constexpr,
    ):  # fmt: skip
        """Turn one part of a token's heads."""
        head = part * PART + tl.arange(0, PART)
        pair = tl.arange(0, HALF_PAD)
        real = (head < HEADS)[:, None] & (pair < HALF)[None, :]
        a_at = x + token * x_token + head[:, None] * x_head + pair[None, :]
        b_at = a_at + HALF
        a = tl.load(a_at, mask=real, other=0.0).to(tl.float32)  # [PART, HALF_PAD]
        b = tl.load(b_at, mask=real, other=0.0).to(tl.float32)
        if NORM:
            squares = tl.sum(a * a, 1) + tl.sum(b * b, 1)
            if D > 2 * HALF:
                tail = 2 * HALF + tl.arange(0, REST_PAD)
                rest_real = (head < HEADS)[:, None] & (tail < D)[None, :]
                rest_at = x + token * x_token + head[:, None] * x_head + tail[None, :]
                rest = tl.load(rest_at, mask=rest_real, other=0.0).to(tl.float32)
                squares += tl.sum(rest * rest, 1)
            root = tl.sqrt(squares / D + eps)[:, None]
            root = tl.where(head[:, None] < HEADS, root, 1.0)
            w_a = tl.load(weight + pair, mask=pair < HALF, other=0.0).to(tl.float32) + offset
            w_b = tl.load(weight + HALF + pair, mask=pair < HALF, other=0.0).to(tl.float32) + offset
            a = a / root * w_a[None, :]
            b = b / root * w_b[None, :]
            if D > 2 * HALF:
                w_rest = tl.load(weight + tail, mask=tail < D, other=0.0).to(tl.float32) + offset
                tl.store(rest_at, (rest / root * w_rest[None, :]).to(x.dtype.element_ty), mask=rest_real)
        c = tl.load(cos + token * c_token + pair, mask=pair < HALF, other=0.0)[None, :]
        s = tl.load(sin + token * s_token + pair, mask=pair < HALF, other=0.0)[None, :]
        tl.store(a_at, (a * c - b * s).to(x.dtype.element_ty), mask=real)
        tl.store(b_at, (b * c + a * s).to(x.dtype.element_ty), mask=real)

    # One program per (token, part of its heads); the parts of q come first, then those of k.
    @triton.jit
    def _rotate(
        q, k, cos, sin, q_weight, k_weight, eps, offset, q_token, q_head, k_token, k_head, c_token, s_token,
        Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, D: tl.constexpr,
        HALF: tl.constexpr, HALF_PAD: tl.constexpr, REST_PAD: tl.constexpr, PART: tl.constexpr,
        Q_NORM: tl.constexpr, K_NORM: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        q_parts: tl.constexpr = (Q_HEADS + PART - 1) // PART
        if part < q_parts:
            _turn(
                q, cos, sin, q_weight, eps, offset, token, part, q_token, q_head, c_token, s_token,
                Q_HEADS, D, HALF, HALF_PAD, REST_PAD, PART, Q_NORM,
            )  # fmt: skip
        else:
            _turn(
                k, cos, sin, k_weight, eps, offset, token, part - q_parts, k_token, k_head, c_token, s_token,
                K_HEADS, D, HALF, HALF_PAD, REST_PAD, PART, K_NORM,
            )  # fmt: skip


def by_triton(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
    offset: float,
) -> None:
    """Launch over tokens and parts of their heads."""
    tokens, q_heads, size = q.shape
    k_heads, half = k.shape[1], cos.shape[1]
    half_pad = triton.next_power_of_2(half)
    part = min(triton.next_power_of_2(max(q_heads, k_heads, 1)), max(1, 1024 // half_pad))  # 16 elements a thread
    parts = triton.cdiv(q_heads, part) + triton.cdiv(k_heads, part)
    if tokens and parts:
        _rotate[(tokens, parts)](
            q, k, cos, sin, q_weight, k_weight, eps, offset,
            *q.stride()[:2], *k.stride()[:2], cos.stride(0), sin.stride(0),
            Q_HEADS=q_heads, K_HEADS=k_heads, D=size, HALF=half, HALF_PAD=half_pad,
            REST_PAD=triton.next_power_of_2(max(1, size - 2 * half)), PART=part,
            Q_NORM=q_weight is not None, K_NORM=k_weight is not None,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip


_rotary = define(
    "rotary(Tensor(a!) q, Tensor(b!) k, Tensor cos, Tensor sin, Tensor? q_weight, Tensor? k_weight, float eps, "
    "float offset) -> ()",
    check=check,
    fake=lambda *_: None,
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
