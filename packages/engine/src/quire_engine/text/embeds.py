"""Prompts that come as embeddings: base64 of one of three forms becomes rows of float32. It knows forms, no model.

The decoded bytes are one tensor of shape [tokens, hidden size], in float32, float16 or bfloat16, as

- a safetensors file with one tensor in it;
- a plain buffer: `dtype=float32;shape=4,128;` in ASCII, then the numbers, little-endian, row by row;
- what `torch.save` wrote, which `torch_file` reads.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from quire_engine.errors import RequestError
from quire_engine.text import torch_file

Rows: TypeAlias = NDArray[np.float32]
"""[tokens, hidden size]"""

_PLAIN = re.compile(rb"dtype=([a-z0-9]{1,16});shape=(\d{1,9}(?:,\d{1,9}){0,3});")
_SAFETENSORS_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_WIDEN: dict[str, Callable[[bytes], Rows]] = {
    "float32": lambda data: np.frombuffer(data, "<f4"),
    "float16": lambda data: np.frombuffer(data, "<f2").astype(np.float32),
    "bfloat16": lambda data: (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32),
}
"""By data type: its numbers as float32, which holds all of them exactly."""
_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}

_LARGEST = {"float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}
"""By the model's data type: the largest number it has."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it was sent."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    """Little-endian, row by row."""


def read_rows(encoded: bytes, *, width: int, dtype: str, field: str) -> Rows:
    """The rows in base64 `encoded`, for a model of this hidden size and data type. RequestError names `field`."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise RequestError(f"{field} is not base64: {error}.", param=field) from error
    try:
        return _checked(_read(data), width, dtype)
    except ValueError as error:
        raise RequestError(f"{field} cannot be used as embeddings: {error}.", param=field) from error


def _read(data: bytes) -> Tensor:
    """The tensor in one of the three forms. ValueError says what is wrong."""
    if data.startswith(torch_file.MAGIC):
        return Tensor(*torch_file.read_tensor(data))
    if plain := _PLAIN.match(data):
        shape = tuple(map(int, plain[2].split(b",")))
        return Tensor(plain[1].decode(), shape, data[plain.end() :])
    if data[8:9] == b"{":
        return _from_safetensors(data)
    raise ValueError(
        "it is neither a safetensors file, nor what torch.save writes, nor a plain buffer after "
        "'dtype=float32;shape=TOKENS,HIDDEN;'"
    )


def _from_safetensors(data: bytes) -> Tensor:
    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ValueError(f"its safetensors header is wrong ({error})") from error
    if len(tensors) != 1:
        raise ValueError(f"the safetensors file should hold one tensor, and holds {len(tensors)}")
    ((_, tensor),) = tensors
    return Tensor(
        _SAFETENSORS_DTYPES.get(tensor["dtype"], tensor["dtype"]), tuple(tensor["shape"]), bytes(tensor["data"])
    )


def _checked(tensor: Tensor, width: int, dtype: str) -> Rows:
    """The tensor's rows; ValueError if they are not what the model takes."""
    if tensor.dtype not in _WIDEN:
        raise ValueError(f"its dtype is {tensor.dtype}, and should be {', '.join(_WIDEN)}")
    shape = tensor.shape[1:] if len(tensor.shape) == 3 and tensor.shape[0] == 1 else tensor.shape  # a batch of one
    if len(shape) != 2 or shape[0] == 0 or shape[1] != width:
        raise ValueError(f"its shape is {list(tensor.shape)}, and should be [tokens, {width}] with at least one token")
    size = prod(shape) * _SIZES[tensor.dtype]
    if len(tensor.data) != size:
        raise ValueError(f"its shape {list(shape)} takes {size} bytes, and {len(tensor.data)} came")
    rows = _WIDEN[tensor.dtype](tensor.data).reshape(shape)
    if not np.abs(rows).max() <= _LARGEST[dtype]:  # false for NaN too
        raise ValueError(f"it holds NaN, infinity or numbers beyond {dtype}'s {_LARGEST[dtype]:g}")
    return rows
