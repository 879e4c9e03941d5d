"""`store_kv`: puts new keys and values into the paged cache; knows slots, not which sequence owns them."""

import torch
from torch import Tensor

from quire_kernels._checks import FLOAT8, FLOATS, Checks, require_float8
from quire_kernels._cpu import TYPES, StoreKv, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def store_kv(
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    *,
    key_scale: float = 1.0,
    value_scale: float = 1.0,
) -> None:
    """Write each token's key and value into its slot of the cache, in place.

    key [T, Hkv, D]; value [T, Hkv, Dv]; keys [blocks, block, Hkv, D]; values [blocks, block, Hkv, Dv]; slots [T] int64,
    `block index * block + offset`. A slot below zero stores nothing (padding); slots that are stored to must differ
    from one another and lie in the cache.

    All have one dtype, or the cache has float8_e4m3fn: keys are divided by `key_scale`, values by `value_scale`, and
    numbers beyond the largest of that dtype, 448, become 448. Other caches take scales of 1 alone.
    Raises ShapeError, DtypeError, DeviceError.
    """
    _store_kv(key, value, keys, values, slots, key_scale, value_scale)


def check(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor, key_scale: float, value_scale: float
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("store_kv")
    checks.require("key", key, "[T, Hkv, D]", *FLOATS)
    checks.require("value", value, "[T, Hkv, Dv]", key.dtype)
    checks.require("keys", keys, "[blocks, block, Hkv, D]", key.dtype, FLOAT8)
    checks.require("values", values, "[blocks, block, Hkv, Dv]", keys.dtype)
    checks.require("slots", slots, "[T]", torch.int64)
    for name, scale in (("key_scale", key_scale), ("value_scale", value_scale)):
        checks.expect(scale > 0, f"{name} is {scale}; pass a positive number, 1 to store as it is")
        checks.expect(
            scale == 1 or keys.dtype == FLOAT8,
            f"{name} is {scale}, but the cache has {keys.dtype}; pass 1, or a cache of {FLOAT8}",
        )


def _scaled(rows: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """The rows as a cache of this dtype holds them."""
    if dtype != FLOAT8:
        return rows
    largest = torch.finfo(dtype).max
    return (rows.float() / scale).clamp_(-largest, largest).to(dtype)


def reference(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor, key_scale: float, value_scale: float
) -> None:
    """Row by row, as the docstring of `store_kv` says it."""
    key, value = _scaled(key, key_scale, keys.dtype), _scaled(value, value_scale, values.dtype)
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            block, offset = divmod(slot, keys.shape[1])
            keys[block, offset] = key[row]
            values[block, offset] = value[row]


def by_torch(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor, key_scale: float, value_scale: float
) -> None:
    """All rows at once."""
    key, value = _scaled(key, key_scale, keys.dtype), _scaled(value, value_scale, values.dtype)
    if slots.numel() and slots.min() < 0:
        stored = slots >= 0
        key, value, slots = key[stored], value[stored], slots[stored]
    block = keys.shape[1]
    where = slots // block, slots % block
    keys[where] = key
    values[where] = value


def by_library(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """One call of csrc/cpu/heads.h."""
    tokens, heads, size = key.shape
    op = StoreKv(
        *map(pointer, (keys, values, key, value, slots)), tokens, heads, size, value.shape[2], keys.shape[1],
        *key.stride()[:2], *value.stride()[:2], *keys.stride()[:3], *values.stride()[:3], TYPES[key.dtype],
    )  # fmt: skip
    assert library is not None
    library.run("store_kv", op)


def cpu(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor, key_scale: float, value_scale: float
) -> None:
    """By the library where there is one; by torch also into float8, which the library does not know."""
    if library is None or keys.dtype == FLOAT8:
        return by_torch(key, value, keys, values, slots, key_scale, value_scale)
    return by_library(key, value, keys, values, slots.contiguous())


if HAS_TRITON:

    @triton.jit
    def _copy(
        source, target, scale, token, slot, part, s_token, s_head, t_block, t_slot, t_head,
        HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr, SCALED: tl.constexpr,
    ):  # fmt: skip
        """Copy one part of a token's heads into its slot."""
        at = part * PART + tl.arange(0, PART)
        head, d = at // D, at % D
        row = tl.load(source + token * s_token + head * s_head + d, mask=head < HEADS)
        if SCALED:
            row = tl.clamp(row.to(tl.float32) / scale, -448.0, 448.0, tl.PropagateNan.ALL).to(target.dtype.element_ty)
        place = target + (slot // BLOCK) * t_block + (slot % BLOCK) * t_slot
        tl.store(place + head * t_head + d, row, mask=head < HEADS)

    # One program per (token, part of its heads). Offsets are int64: a cache passes 2**31 elements.
    @triton.jit
    def _store(
        key, value, keys, values, slots, key_scale, value_scale,
        k_token, k_head, v_token, v_head, ks_block, ks_slot, ks_head, vs_block, vs_slot, vs_head,
        HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr,
        SCALED: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        slot = tl.load(slots + token)
        if slot < 0:
            return
        _copy(
            key, keys, key_scale, token, slot, part, k_token, k_head, ks_block, ks_slot, ks_head,
            HEADS, D, BLOCK, PART, SCALED,
        )  # fmt: skip
        _copy(
            value, values, value_scale, token, slot, part, v_token, v_head, vs_block, vs_slot, vs_head,
            HEADS, DV, BLOCK, PART, SCALED,
        )  # fmt: skip


def by_triton(
    key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor, key_scale: float, value_scale: float
) -> None:
    """Launch over tokens and parts of their heads."""
    tokens, heads, size = key.shape
    v_size = value.shape[2]
    require_float8(keys)
    part = 1024  # elements: eight a thread, one 16-byte store in 16 bits
    if tokens:
        _store[(tokens, triton.cdiv(heads * max(size, v_size), part))](
            key, value, keys, values, slots, key_scale, value_scale,
            *key.stride()[:2], *value.stride()[:2], *keys.stride()[:3], *values.stride()[:3],
            HEADS=heads, D=size, DV=v_size, BLOCK=keys.shape[1], PART=part, SCALED=keys.dtype == FLOAT8,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip


_store_kv = define(
    "store_kv(Tensor key, Tensor value, Tensor(a!) keys, Tensor(b!) values, Tensor slots, "
    "float key_scale, float value_scale) -> ()",
    check=check,
    fake=lambda *_: None,
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
