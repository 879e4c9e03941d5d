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

from quire_kernels.experts import Tiling as Routing
from quire_kernels.experts import _gate, _give
from quire_kernels.paged_attention import Tiling, _attention, _attention_split
from quire_kernels.rms_norm import _norm
from quire_kernels.rotary import _rotate

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


CASES: dict[str, Callable[[], Source]] = {
    "decode": lambda: paged(1),
    "decode, split": lambda: paged(1, split=True),
    "prefill": lambda: paged(512),
    "prefill, split": lambda: paged(512, split=True),
    "invariant": lambda: paged(1, invariant=True),
    "invariant, split": lambda: paged(1, invariant=True, split=True),
    "decode, split, float8": lambda: paged(1, split=True, cache="fp8e4nv"),
    "prefill, float8": lambda: paged(512, cache="fp8e4nv"),
    "decode, split, window, cap": lambda: paged(1, split=True, window=512, softcap=True),
    "decode, split, 256": lambda: paged(1, split=True, size=256),
    "prefill, 256": lambda: paged(512, size=256),
    "invariant, 256": lambda: paged(1, size=256, invariant=True),
    "decode, split, 64": lambda: paged(1, split=True, size=64, group=8),
    "prefill, float32": lambda: paged(512, dtype=torch.float32, cache="fp32"),
    "experts, gate, decode": lambda: routed(_gate, 256, ACTIVATION="silu"),
    "experts, gate, prefill": lambda: routed(_gate, 65536, ACTIVATION="silu"),
    "experts, give, decode": lambda: routed(_give, 256),
    "experts, give, prefill": lambda: routed(_give, 65536),
    "norm of 4096": lambda: normed(4096, add=True),
    "norm of 16384": lambda: normed(16384, add=True),
    "rotary": lambda: turned(norm=False),
    "rotary with norms": lambda: turned(norm=True),
    "decode, split, float32": lambda: paged(1, split=True, dtype=torch.float32, cache="fp32"),
}


if __name__ == "__main__":
    for name, source in CASES.items():
        print(json.dumps([name, source().compiled()]))
