"""Compiles the Triton bodies for Hopper, which needs no GPU, and prints what the compiler made of each.

`python -m tests.support.hopper`: a line of JSON, [name, findings], for each of `CASES`.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from quire_kernels.draw import _add, _fill, _find, _numbers, _settle, _survey
from quire_kernels.experts import Tiling as Routing
from quire_kernels.experts import _gate, _give
from quire_kernels.gated import _gate as _gate_columns
from quire_kernels.paged_attention import Tiling, _attention, _attention_split, _combine
from quire_kernels.penalties import _penalise
from quire_kernels.rms_norm import _norm
from quire_kernels.rotary import _rotate
from quire_kernels.store_kv import _store

SM_90 = GPUTarget("cuda", 90, 32)
INSTRUCTIONS = ("mma.sync", "wgmma.mma_async", "cp.async")
EVEN = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Source:
    """A kernel as it is launched: the types of what varies, the values of what does not, and how it is compiled."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    even: tuple[str, ...] = ()
    """Numbers that are multiples of 16; pointers always are."""
    options: dict[str, int] | None = None

    def compiled(self) -> dict[str, Any]:
        """Which instructions the code has, its shared memory in bytes, registers and stack of a thread."""
        names = self.kernel.arg_names
        types = self.types | dict.fromkeys(self.constants, "constexpr")
        source = ASTSource(
            self.kernel,
            {name: types.get(name, "i32") for name in names},
            {(names.index(name),): value for name, value in self.constants.items()},
            {
                (place,): EVEN
                for place, name in enumerate(names)
                if types.get(name, "").startswith("*") or name in self.even
            },
        )
        code = triton.compile(source, target=SM_90, options=(self.options or {}) | {"enable_fp_fusion": True})
        found: dict[str, Any] = {name: name in code.asm["ptx"] for name in INSTRUCTIONS}
        return found | {"shared": code.metadata.shared} | usage(code.asm["cubin"])


def usage(cubin: bytes) -> dict[str, int]:
    """Registers of a thread and the bytes of memory it keeps beside them (what was spilled), as the binary has them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile("wb", suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK):(\d+)", report)}


def paged(
    queries: int,
    *,
    split: bool = False,
    invariant: bool = False,
    cache: str = "bf16",
    size: int = 128,
    window: int = 0,
    softcap: bool = False,
    group: int = 4,
    dtype: torch.dtype = torch.bfloat16,
) -> Source:
    """Attention for spans of about `queries`."""
    tiling = Tiling.of(dtype, size, group, 64 // group if invariant else queries)
    tile = tiling.rows // group
    constants = {"GROUP": group, "PACK": group, "TILE": tile, "D": size, "D_PAD": size, "DV": size, "DV_PAD": size}
    constants |= {"BLOCK": 16, "KEYS": tiling.keys, "WINDOW": window, "SOFTCAP": softcap, "SINKS": False, "sinks": None}
    constants |= {"PRECISION": "ieee" if dtype == torch.float32 else "tf32", "SEGMENT": 2048 if invariant else 0}
    if split:
        constants |= {"SPANS": 64, "KEPT": tiling.rows}
    short = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    types = dict.fromkeys(("q", "out"), f"*{short}") | dict.fromkeys(("keys", "values"), f"*{cache}")
    types |= dict.fromkeys(("sums", "marks"), "*fp32") | dict.fromkeys(("tables", "starts", "lengths"), "*i32")
    types |= dict.fromkeys(("scale", "softcap", "value_scale"), "fp32")
    kernel = _attention_split if split else _attention
    even = tuple(name for name in kernel.arg_names if name[:2] in ("q_", "k_", "v_", "o_"))
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    return Source(kernel, types, constants, even, options)


def routed(kernel: Any, pairs: int, **changes: Any) -> Source:
    """One of the products of experts, for a model of 128 experts of 768 and `pairs` of a token and an expert."""
    tiling = Routing.of(torch.bfloat16, pairs, 128, invariant=False)
    constants = {"EXPERTS": 128, "EXPERTS_PAD": 128, "SIZE": 2048, "INNER": 768, "PRECISION": "tf32"}
    constants |= {"ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth} | changes
    types = dict.fromkeys(("x", "gate_up", "down", "inner", "shares"), "*bf16")
    types |= {"order": "*i64", "bounds": "*i32", "weights": "*fp32"}
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    return Source(kernel, types, constants, ("x_row", "w_expert", "w_row"), options)


def normed(size: int, add: bool) -> Source:
    """A norm over rows of `size`."""
    types = dict.fromkeys(("x", "residual", "weight", "out"), "*bf16") | {"eps": "fp32", "offset": "fp32"}
    warps = min(16, max(1, size // 1024))
    return Source(_norm, types, {"SIZE": size, "PAD": size, "ADD": add}, ("x_row", "r_row"), {"num_warps": warps})


def turned(norm: bool) -> Source:
    """Rotation of 32 and 8 heads of 128."""
    types = dict.fromkeys(("q", "k", "q_weight", "k_weight"), "*bf16")
    types |= {"cos": "*fp32", "sin": "*fp32", "eps": "fp32", "offset": "fp32"}
    constants = {"Q_HEADS": 32, "K_HEADS": 8, "D": 128, "HALF": 64, "HALF_PAD": 64, "REST_PAD": 1, "PART": 16}
    even = ("q_token", "q_head", "k_token", "k_head", "c_token", "s_token")
    return Source(_rotate, types, constants | {"Q_NORM": norm, "K_NORM": norm}, even, {"num_warps": 4})


def combined(invariant: bool) -> Source:
    """What adds up the parts of a decode's attention."""
    tiling = Tiling.of(torch.bfloat16, 128, 4, 16 if invariant else 1)
    constants = {"GROUP": 4, "PACK": 4, "TILE": tiling.rows // 4, "DV": 128, "DV_PAD": 128, "KEYS": tiling.keys}
    constants |= {"WINDOW": 0, "SINKS": False, "sinks": None, "SEGMENT": 2048 if invariant else 0, "SPANS": 64}
    types = dict.fromkeys(("sums", "marks"), "*fp32") | dict.fromkeys(("starts", "lengths"), "*i32")
    types |= {"out": "*bf16", "value_scale": "fp32"}
    return Source(_combine, types, constants | {"KEPT": 4, "AHEAD": 4}, ("o_token", "o_head"), {"num_warps": 4})


def stored(cache: str) -> Source:
    """Rows of 8 heads of 128 put into a cache."""
    types = dict.fromkeys(("key", "value"), "*bf16") | dict.fromkeys(("keys", "values"), f"*{cache}")
    types |= {"slots": "*i64", "key_scale": "fp32", "value_scale": "fp32"}
    constants = {"HEADS": 8, "D": 128, "DV": 128, "BLOCK": 16, "PART": 1024, "SCALED": cache != "bf16"}
    even = tuple(
        name for name in _store.arg_names if name[0] in "kv" and name.endswith(("token", "head", "slot", "block"))
    )
    return Source(_store, types, constants, even, {"num_warps": 4})


def gating(activation: str) -> Source:
    """A gate over 3072 columns."""
    constants = {"SIZE": 3072, "PART": 1024, "ACTIVATION": activation}
    return Source(_gate_columns, {"gate_up": "*bf16", "out": "*bf16"}, constants, ("row_stride",), {"num_warps": 4})


def penalised() -> Source:
    """Penalties of rows of float32."""
    types = dict.fromkeys(("rows", "tokens", "firsts", "prompts", "lengths"), "*i64")
    types |= dict.fromkeys(("logits", "repetition", "presence", "frequency", "scores"), "*fp32")
    return Source(_penalise, types, {"PART": 1024}, ("l_row",), {"num_warps": 8})


def drawn(kernel: Any, *off: str) -> Source:
    """A kernel of the draw from 151,936 logits, with the settings named here off for all rows."""
    types = dict.fromkeys(("logits", "bests", "temperature", "top_p", "min_p", "best_out"), "*fp32")
    types |= dict.fromkeys(("top_k", "masses", "totals", "tokens"), "*i64") | {"uniform": "*fp64"}
    types |= dict.fromkeys(("counts", "keys", "cuts"), "*i32")
    shape = {"SIZE": 151936, "CHUNK": 4096, "CHUNKS": 38, "CHUNKS_PAD": 64, "BUCKETS": 2048, "SPAN": 32.0}
    constants = {name: value for name, value in shape.items() if name in kernel.arg_names} | dict.fromkeys(off)
    return Source(kernel, types, constants, ("l_row",), {"num_warps": 8})


def numbered() -> Source:
    """The numbers that decide draws."""
    types = dict.fromkeys(("seeds", "choices", "positions"), "*i64") | {"out": "*fp64"}
    return Source(_numbers, types, {"PART": 128}, (), {"num_warps": 4})


CASES: dict[str, Callable[[], Source]] = {
    "decode": lambda: paged(1),
    "decode, split": lambda: paged(1, split=True),
    "prefill": lambda: paged(512),
    "invariant": lambda: paged(1, invariant=True),
    "invariant, split": lambda: paged(1, invariant=True, split=True),
    "decode, split, float8": lambda: paged(1, split=True, cache="fp8e4nv"),
    "decode, split, window, cap": lambda: paged(1, split=True, window=512, softcap=True),
    "prefill, 256": lambda: paged(512, size=256),
    "experts, gate, decode": lambda: routed(_gate, 256, ACTIVATION="silu"),
    "experts, gate, prefill": lambda: routed(_gate, 65536, ACTIVATION="silu"),
    "experts, give, decode": lambda: routed(_give, 256),
    "experts, give, prefill": lambda: routed(_give, 65536),
    "norm of 4096": lambda: normed(4096, add=True),
    "rotary": lambda: turned(norm=False),
    "rotary with norms": lambda: turned(norm=True),
    "combine": lambda: combined(invariant=False),
    "store": lambda: stored("bf16"),
    "store, float8": lambda: stored("fp8e4nv"),
    "gated, silu": lambda: gating("silu"),
    "gated, gelu": lambda: gating("gelu"),
    "penalties": penalised,
    "draw, survey": lambda: drawn(_survey),
    "draw, fill": lambda: drawn(_fill),
    "draw, settle": lambda: drawn(_settle),
    "draw, settle, top-k alone": lambda: drawn(_settle, "top_p", "min_p"),
    "draw, add": lambda: drawn(_add),
    "draw, find": lambda: drawn(_find, "min_p"),
    "uniforms": numbered,
    "decode, split, float32": lambda: paged(1, split=True, dtype=torch.float32, cache="fp32"),
}


if __name__ == "__main__":
    for name, source in CASES.items():
        print(json.dumps([name, source().compiled()]))
