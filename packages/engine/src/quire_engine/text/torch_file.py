"""Reads the one plain tensor in what `torch.save` wrote, and runs nothing that is written there.

Such bytes are a program for an unpickling machine, so they pass four gates: what the archive holds, what its program
names, what it would build (on torch's meta device, which allocates nothing), and torch's weights-only load. torch is
imported when the first such bytes come: nothing else on the text side needs it.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import Any

MAGIC = b"PK\x03\x04"
"""What such bytes begin with, as they are a zip archive."""

_MOST_RECORDS = 64
_LONGEST_PROGRAM = 4096
"""Bytes; the program of a plain tensor has less than 200."""

_DTYPES = {"torch.float32": "float32", "torch.float16": "float16", "torch.bfloat16": "bfloat16"}
_NAMES = frozenset(
    {
        "torch._utils _rebuild_tensor_v2",
        "collections OrderedDict",
        "torch FloatStorage",
        "torch HalfStorage",
        "torch BFloat16Storage",
    }
)
"""All that the program of a plain tensor refers to; others build sparse, nested or quantised ones, or worse."""


def read_tensor(data: bytes) -> tuple[str, tuple[int, ...], bytes]:
    """Data type, shape and little-endian contents. ValueError says what is wrong with the bytes."""
    stored = _stored_bytes(data)
    import torch

    for place in ("meta", "cpu"):
        try:
            tensor = torch.load(io.BytesIO(data), map_location=place, weights_only=True)
        except Exception as error:  # whatever torch finds wrong with the bytes
            reason = " ".join(str(error).split())
            raise ValueError(f"torch cannot load it ({type(error).__name__}: {reason[:200]})") from error
        _check(tensor, stored)
    contents = tensor.detach().view(torch.uint8).numpy().tobytes()
    return _DTYPES[str(tensor.dtype)], tuple(tensor.shape), contents


def _stored_bytes(data: bytes) -> int:
    """Bytes of the only tensor in the archive, after a look at everything else there."""
    if data.count(b"PK\x01\x02") > _MOST_RECORDS:
        raise ValueError(f"it has more than {_MOST_RECORDS} records, and one tensor takes fewer than ten")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = archive.infolist()
            programs = [archive.open(record).read(_LONGEST_PROGRAM + 1) for record in _named("/data.pkl", records)]
    except Exception as error:  # zipfile has as many as there are ways to be malformed
        raise ValueError(f"it is no archive that torch.save wrote ({error})") from error
    contents = _named("/data/", records)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed, which torch.save never does")
    if len(programs) != 1 or len(contents) != 1 or len(programs[0]) > _LONGEST_PROGRAM:
        raise ValueError("it does not hold one tensor and nothing else")
    _check_program(programs[0])
    return contents[0].file_size


def _named(part: str, records: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    return [record for record in records if part in record.filename]


def _check_program(program: bytes) -> None:
    """Refuse a program that names anything a plain tensor does not need."""
    try:
        steps = [(step.name, argument) for step, argument, _ in pickletools.genops(program)]
    except Exception as error:  # pickletools has as many as there are ways to be malformed
        raise ValueError(f"its pickle is malformed ({error})") from error
    for name, argument in steps:
        if name in ("GLOBAL", "INST") and argument in _NAMES:
            continue
        if name in ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            told = f"it needs {str(argument).replace(' ', '.')}" if argument else "it hides what it needs"
            raise ValueError(f"{told}: save one plain tensor, as tensor.detach().cpu().contiguous() gives it")


def _check(tensor: Any, stored: int) -> None:
    """Refuse everything but a dense, contiguous tensor of a type that is served, all of whose bytes are there."""
    import torch

    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided:
        raise ValueError(f"it holds a {type(tensor).__name__}, not a dense tensor")
    if str(tensor.dtype) not in _DTYPES:
        raise ValueError(f"its dtype is {tensor.dtype}, and should be float32, float16 or bfloat16")
    if tensor.untyped_storage().nbytes() != stored or tensor.numel() * tensor.itemsize > stored:
        raise ValueError("its shape needs other bytes than it brings: save tensor.contiguous()")
    if not tensor.is_contiguous():
        raise ValueError(f"its strides {tuple(tensor.stride())} are not those of a contiguous tensor")
