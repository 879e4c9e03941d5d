"""`store_kv`: puts new keys and values into the paged cache; knows slots, not which sequence owns them."""

import torch
from torch import Tensor

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def store_kv(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Write each token's key and value into its slot of the cache, in place.

    key [T, Hkv, D]; value [T, Hkv, Dv]; keys [blocks, block, Hkv, D]; values [blocks, block, Hkv, Dv], all of one
    dtype; slots [T] int64, `block index * block + offset`. A slot below zero stores nothing (padding); slots that are
    stored to must differ from one another and lie in the cache.
    Raises ShapeError, DtypeError, DeviceError.
    """
    _store_kv(key, value, keys, values, slots)


def check(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("store_kv")
    checks.require("key", key, "[T, Hkv, D]", *FLOATS)
    checks.require("value", value, "[T, Hkv, Dv]", key.dtype)
    checks.require("keys", keys, "[blocks, block, Hkv, D]", key.dtype)
    checks.require("values", values, "[blocks, block, Hkv, Dv]", key.dtype)
    checks.require("slots", slots, "[T]", torch.int64)


def reference(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Row by row, as the docstring of `store_kv` says it."""
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            block, offset = divmod(slot, keys.shape[1])
            keys[block, offset] = key[row]
            values[block, offset] = value[row]


def cpu(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """All rows at once."""
    if slots.numel() and slots.min() < 0:
        stored = slots >= 0
        key, value, slots = key[stored], value[stored], slots[stored]
    block = keys.shape[1]
    where = slots // block, slots % block
    keys[where] = key
    values[where] = value


if HAS_TRITON:

    @triton.jit
    def _copy(
        source, target, token, slot, part, s_token, s_head, t_block, t_slot, t_head,
        HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr,
    ):  # fmt: skip
        """Copy one part of a token's heads into its slot."""
        at = part * PART + tl.arange(0, PART)
        head, d = at // D, at % D
        row = tl.load(source + token * s_token + head * s_head + d, mask=head < HEADS)
        place = target + (slot // BLOCK) * t_block + (slot % BLOCK) * t_slot
        tl.store(place + head * t_head + d, row, mask=head < HEADS)

    # One program per (token, part of its heads). Offsets are int64: a cache passes 2**31 elements.
    @triton.jit
    def _store(
        key, value, keys, values, slots,
        k_token, k_head, v_token, v_head, ks_block, ks_slot, ks_head, vs_block, vs_slot, vs_head,
        HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        slot = tl.load(slots + token)
        if slot < 0:
            return
        _copy(key, keys, token, slot, part, k_token, k_head, ks_block, ks_slot, ks_head, HEADS, D, BLOCK, PART)
        _copy(value, values, token, slot, part, v_token, v_head, vs_block, vs_slot, vs_head, HEADS, DV, BLOCK, PART)


def by_triton(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Launch over tokens and parts of their heads."""
    tokens, heads, size = key.shape
    v_size = value.shape[2]
    part = 1024  # elements: eight a thread, one 16-byte store in 16 bits
    if tokens:
        _store[(tokens, triton.cdiv(heads * max(size, v_size), part))](
            key, value, keys, values, slots,
            *key.stride()[:2], *value.stride()[:2], *keys.stride()[:3], *values.stride()[:3],
            HEADS=heads, D=size, DV=v_size, BLOCK=keys.shape[1], PART=part, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip


_store_kv = define(
    "store_kv(Tensor key, Tensor value, Tensor(a!) keys, Tensor(b!) values, Tensor slots) -> ()",
    check=check,
    fake=lambda *_: None,
    bodies={"reference": reference, "cpu": cpu, "triton": by_triton},
)
