"""Compiles paged attention for Hopper, which needs no GPU, and prints what the compiler made: `python -m … QUERIES`."""

import json
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from quire_kernels.paged_attention import Tiling, _attention

SIZE, GROUP, BLOCK = 128, 4, 16
SM_90 = GPUTarget("cuda", 90, 32)


def compiled(queries: int) -> dict[str, object]:
    """Instructions found in the code for spans of about `queries`, and its shared memory in bytes."""
    tiling = Tiling.of(torch.bfloat16, SIZE, GROUP, queries)
    sizes = {"D": SIZE, "D_PAD": SIZE, "DV": SIZE, "DV_PAD": SIZE, "BLOCK": BLOCK, "KEYS": tiling.keys}
    packing = {"GROUP": GROUP, "PACK": GROUP, "TILE": tiling.rows // GROUP}
    features = {"WINDOW": 0, "SOFTCAP": False, "SINKS": False, "sinks": None, "PRECISION": "tf32"}
    constants = sizes | packing | features
    types = (
        dict.fromkeys(("q", "keys", "values", "out"), "*bf16")
        | dict.fromkeys(("tables", "starts", "lengths"), "*i32")
        | dict.fromkeys(("scale", "softcap"), "fp32")
        | dict.fromkeys(constants, "constexpr")
    )
    names = _attention.arg_names
    source = ASTSource(
        _attention,
        {name: types.get(name, "i32") for name in names},
        {(names.index(name),): value for name, value in constants.items()},
        {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if types.get(name, "").startswith("*") or name[:2] in ("q_", "k_", "v_", "o_")
        },
    )
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages, "enable_fp_fusion": True}
    code = triton.compile(source, target=SM_90, options=options)
    instructions = ("mma.sync", "wgmma.mma_async", "cp.async")
    return {name: name in code.asm["ptx"] for name in instructions} | {"shared": code.metadata.shared}


if __name__ == "__main__":
    print(json.dumps(compiled(int(sys.argv[1]))))
