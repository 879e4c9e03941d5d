"""The ops of Quire: each a reference, a Triton body for CUDA, a CPU body, and one function that picks."""

from quire_kernels.__about__ import __version__
from quire_kernels._checks import DeviceError, DtypeError, KernelError, ShapeError
from quire_kernels._select import BodyError
from quire_kernels.draw import draw, limited, uniforms
from quire_kernels.experts import experts
from quire_kernels.gated import gated
from quire_kernels.linear import PackedLinear, linear, pack_linear
from quire_kernels.paged_attention import paged_attention
from quire_kernels.penalties import penalties
from quire_kernels.rms_norm import add_rms_norm, rms_norm
from quire_kernels.rotary import rotary
from quire_kernels.store_kv import store_kv

__all__ = [
    "BodyError",
    "DeviceError",
    "DtypeError",
    "KernelError",
    "PackedLinear",
    "ShapeError",
    "__version__",
    "add_rms_norm",
    "draw",
    "experts",
    "gated",
    "limited",
    "linear",
    "pack_linear",
    "paged_attention",
    "penalties",
    "rms_norm",
    "rotary",
    "store_kv",
    "uniforms",
]
