"""The CPU library, built from csrc/cpu: finds it, checks it, calls it; knows its structs, not what the ops compute.

Where the library is absent (no compiler when the package was installed, another processor or system), `library` is None
and ops run in plain torch.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from threading import local
from typing import Any, Final

import torch
from torch import Tensor

from quire_kernels._checks import KernelError

THREADS: Final = "QUIRE_CPU_THREADS"  # the environment's variable that sizes the thread team
ISA: Final = "QUIRE_CPU_ISA"  # the one that names an instruction set instead of the best one
_LINE: Final = 64  # bytes of a cache line
PATH: Final = Path(__file__).with_name("libquire_cpu.so")
WIDEST_HEAD: Final = 1024  # elements, of csrc/cpu/heads.h
TYPES: Final = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class LibraryError(KernelError, RuntimeError):
    """The CPU library cannot do what was asked of it as a whole."""


class RmsNorm(Structure):
    """QuireRmsNorm of csrc/cpu/ops.h."""

    _fields_ = (
        ("out", c_void_p),
        ("x", c_void_p),
        ("residual", c_void_p),
        ("weight", c_void_p),
        ("rows", c_int64),
        ("size", c_int64),
        ("x_stride", c_int64),
        ("eps", c_float),
        ("offset", c_float),
        ("type", c_int32),
    )


class PagedAttention(Structure):
    """QuirePagedAttention of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("out", "q", "keys", "values", "tables", "starts", "lengths", "sinks")),
        ("scratch", c_void_p),
        *((name, c_int64) for name in ("tokens", "spans", "q_heads", "kv_heads", "size", "v_size", "block")),
        *((name, c_int64) for name in ("q_token", "q_head", "out_token", "out_head")),
        *((name, c_int64) for name in ("k_block", "k_slot", "k_head", "v_block", "v_slot", "v_head", "table_stride")),
        ("longest", c_int64),
        ("window", c_int64),
        ("scale", c_float),
        ("softcap", c_float),
        *((name, c_int32) for name in ("q_type", "kv_type", "out_type", "invariant")),
    )


class Linear(Structure):
    """QuireLinear of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("out", "x", "weight", "scales", "bias", "scratch")),
        *((name, c_int64) for name in ("rows", "n", "k", "x_stride", "out_stride")),
        *((name, c_int32) for name in ("x_type", "out_type", "kind", "group", "gate", "accumulate", "invariant")),
    )


class PackLinear(Structure):
    """QuirePackLinear of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("packed", "scales", "weight")),
        *((name, c_int64) for name in ("n", "k", "weight_stride")),
        *((name, c_int32) for name in ("weight_type", "kind", "group", "gate")),
    )


class DecoderNorm(Structure):
    """QuireNorm of csrc/cpu/decoder_ops.h."""

    _fields_ = (
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("size", c_int64),
        ("eps", c_float),
        ("kind", c_int32),
    )


class DecoderRotation(Structure):
    """QuireRotation of csrc/cpu/decoder_ops.h."""

    _fields_ = (("frequencies", c_void_p), ("pairs", c_int64), ("scale", c_float), ("unused", c_int32))


class DecoderLayer(Structure):
    """QuireDecoderLayer of csrc/cpu/decoder_ops.h."""

    _fields_ = (
        *((name, DecoderNorm) for name in ("before_attention", "q", "k", "after_attention", "before_mlp", "after_mlp")),
        *((name, Linear) for name in ("qkv", "output", "up", "down")),
        ("sinks", c_void_p),
        *((name, c_int64) for name in ("q_heads", "kv_heads", "key_size", "value_size", "window", "inner")),
        *((name, c_float) for name in ("scale", "softcap", "clip", "residual_multiplier")),
        *((name, c_int32) for name in ("rotation", "norm_after_rotation", "parallel", "gated", "plain_activation")),
        ("unused", c_int32),
    )


class Decoder(Structure):
    """QuireDecoder of csrc/cpu/decoder_ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("layers", "rotations", "embedding")),
        ("final_norm", DecoderNorm),
        ("head", Linear),
        *((name, c_int64) for name in ("layer_count", "rotation_count", "hidden", "vocab")),
        *((name, c_float) for name in ("embedding_scale", "given_scale", "logits_scale", "logits_softcap")),
        *((name, c_int32) for name in ("embedding_type", "type")),
        *((name, c_void_p) for name in ("residual", "added", "normed", "own", "projected", "attended", "inner")),
        *((name, c_void_p) for name in ("turns", "product_scratch")),
        *((name, c_int64) for name in ("max_rows", "threads", "own_size", "most_pairs")),
    )


class DecoderCacheLayer(Structure):
    """QuireCacheLayer of csrc/cpu/decoder_ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("key_block", "key_token", "key_head")),
        *((name, c_int64) for name in ("value_block", "value_token", "value_head")),
    )


class DecoderStep(Structure):
    """QuireDecoderStep of csrc/cpu/decoder_ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("decoder", "cache", "ids", "given", "given_rows", "positions", "slots")),
        *((name, c_void_p) for name in ("starts", "lengths", "tables", "chosen", "logits")),
        *((name, c_int64) for name in ("rows", "spans", "table_stride", "block_size", "chosen_rows", "longest")),
        ("scratch", c_void_p),
    )


class DecoderLogits(Structure):
    """QuireDecoderLogits of csrc/cpu/decoder_ops.h."""

    _fields_ = (("decoder", c_void_p), ("chosen", c_void_p), ("logits", c_void_p), ("chosen_rows", c_int64))


class StoreKv(Structure):
    """QuireStoreKv of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "key", "value", "slots")),
        *((name, c_int64) for name in ("tokens", "heads", "size", "v_size", "block")),
        *((name, c_int64) for name in ("key_token", "key_head", "value_token", "value_head")),
        *((name, c_int64) for name in ("k_block", "k_slot", "k_head", "v_block", "v_slot", "v_head")),
        ("type", c_int32),
    )


class Rotary(Structure):
    """QuireRotary of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("q", "k", "cos", "sin", "q_weight", "k_weight")),
        *((name, c_int64) for name in ("tokens", "q_heads", "k_heads", "size", "half")),
        *((name, c_int64) for name in ("q_token", "q_head", "k_token", "k_head", "cos_token", "sin_token")),
        ("eps", c_float),
        ("offset", c_float),
        ("type", c_int32),
    )


class Gated(Structure):
    """QuireGated of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("out", "gate_up")),
        *((name, c_int64) for name in ("rows", "size", "stride")),
        ("gate", c_int32),
        ("type", c_int32),
    )


class Draw(Structure):
    """QuireDraw of csrc/cpu/ops.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("tokens", "best", "logits", "uniform", "temperature")),
        *((name, c_void_p) for name in ("top_k", "top_p", "min_p", "scratch")),
        *((name, c_int64) for name in ("rows", "size", "stride")),
        ("type", c_int32),
    )


OPS: Final[dict[str, type[Structure]]] = {
    "rms_norm": RmsNorm,
    "paged_attention": PagedAttention,
    "store_kv": StoreKv,
    "rotary": Rotary,
    "gated": Gated,
    "draw": Draw,
    "linear": Linear,
    "pack_linear": PackLinear,
    "decoder_step": DecoderStep,
    "decoder_logits": DecoderLogits,
}
"""Every op of the library, and its struct."""

PARTS: Final[dict[str, type[Structure]]] = {"decoder": Decoder, "decoder_layer": DecoderLayer}
"""Structs that others point to."""


class Library:
    """The loaded library. Ops may be called from any thread: one at a time is shared among the team's threads."""

    def __init__(self, handle: ctypes.CDLL) -> None:
        handle.quire_isa.restype = c_char_p
        handle.quire_use_isa.argtypes = (c_char_p,)
        handle.quire_set_threads.argtypes = (c_int,)
        handle.quire_size_of.argtypes, handle.quire_size_of.restype = (c_char_p,), c_int64
        self._handle = handle
        self._ops: dict[str, Any] = {}
        self._memory = local()
        for name, struct in {**OPS, **PARTS}.items():
            if handle.quire_size_of(name.encode()) != ctypes.sizeof(struct):
                raise LibraryError(
                    f"{PATH.name} was built from other sources ({name} differs): install the package anew"
                )
        for name, struct in OPS.items():
            function = getattr(handle, f"quire_{name}")
            function.argtypes, function.restype = (POINTER(struct),), None
            self._ops[name] = function

    def run(self, name: str, op: Structure) -> None:
        """Run one op to its end. Its struct's pointers must stay valid meanwhile."""
        self._ops[name](byref(op))

    def scratch_of(self, name: str, op: Structure) -> Tensor:
        """Memory for an op that asks for some: this thread's own, kept and grown from call to call."""
        size = self.scratch_size(name, op) + _LINE
        memory: Tensor | None = getattr(self._memory, "bytes", None)
        if memory is None or len(memory) < size:
            memory = self._memory.bytes = torch.empty(size, dtype=torch.uint8)
        return memory[-memory.data_ptr() % _LINE :]

    def scratch_size(self, name: str, op: Structure) -> int:
        """Bytes of memory that an op asks for, for who keeps it a place of its own."""
        size_of = getattr(self._handle, f"quire_{name}_scratch")
        size_of.restype = c_int64
        size: int = size_of(byref(op), self.threads)
        return size

    def decoder_spent(self) -> list[int]:
        """Nanoseconds that steps of decoders have taken in this process, phase by phase, as the first thread saw it."""
        spent = (c_int64 * self._handle.quire_decoder_spent(None))()
        self._handle.quire_decoder_spent(spent)
        return list(spent)

    @property
    def isa(self) -> str:
        """The instruction set in use: avx2, avx512, avx512bf16 or amx."""
        name: bytes = self._handle.quire_isa()
        return name.decode()

    def use_isa(self, name: str) -> None:
        """Use this instruction set from now on, for tests and comparisons. LibraryError if the processor lacks it."""
        if self._handle.quire_use_isa(name.encode()):
            raise LibraryError(f"this processor has no {name!r}, or the library no body for it; {self.isa} is in use")

    @property
    def threads(self) -> int:
        """Threads of the team, the caller's own included."""
        count: int = self._handle.quire_threads()
        return count

    def set_threads(self, count: int) -> None:
        """Resize the team; 0 asks for a thread on every CPU that this process may use."""
        self._handle.quire_set_threads(count)


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's first element lies."""
    return None if tensor is None else tensor.data_ptr()


def _load() -> Library | None:
    """The library, as the environment wants it; None where there is none, or the processor has too little."""
    if not PATH.exists():
        return None
    handle = ctypes.CDLL(str(PATH))
    handle.quire_isa.restype = c_char_p
    if handle.quire_isa() is None:
        return None
    found = Library(handle)
    if isa := os.environ.get(ISA):
        found.use_isa(isa)
    found.set_threads(_wanted_threads())
    return found


def _wanted_threads() -> int:
    """As the environment says; otherwise what a container may use of the CPUs that it sees, or 0 for all of them."""
    asked = os.environ.get(THREADS) or os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # one for each level
    if asked.isdecimal():
        return int(asked)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(max(1, int(quota) // int(period)), len(os.sched_getaffinity(0)))
    except (OSError, ValueError):  # no such file, or "max"
        return 0


library: Final[Library | None] = _load()
