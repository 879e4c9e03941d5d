"""`store_kv`: puts new keys and values into the paged cache; knows slots, not which sequence owns them."""

import torch
from torch import Tensor

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._select import define


def store_kv(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Write each token's key and value into its slot of the cache, in place.

    key [T, Hkv, D]; value [T, Hkv, Dv]; keys [blocks, block, Hkv, D]; values [blocks, block, Hkv, Dv], all of one
    dtype; slots [T] int64, `block index * block + offset`. A slot below zero stores nothing (padding); slots that are
    stored to must differ from one another and lie in the cache. Tensors may be strided views.
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


_store_kv = define(
    "store_kv(Tensor key, Tensor value, Tensor(a!) keys, Tensor(b!) values, Tensor slots) -> ()",
    check=check,
    fake=lambda *_: None,
    bodies={"reference": reference, "cpu": cpu},
)
