"""What each fusion pass gains: one model before and after it, at several numbers of rows, and what the proof costs.

usage: python -m benchmarks.fusion [--shape 0.6b] [--layers 4] [--rows 1 8 32 512] [--device cpu|cuda] [--rounds 9]
                                   [--json auto]

Passes build on one another, so each side has one pass more than the side before it; the peer is that side. The sides
take turns. A few layers of the shape are enough, as all are alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from benchmarks.bench import Row, arguments, finish, median, turns
from benchmarks.shapes import SHAPES, Shape
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from quire_engine.attention import BACKENDS, AttentionBackend
from quire_engine.kv.cache import KVCache, LayerShape
from quire_engine.model.forward import ModelForward
from quire_engine.model.fusion import PASSES, fuse
from quire_engine.model.proof import prove
from quire_engine.model.seam import Pass
from quire_engine.runner.pack import Packer
from quire_engine.runner.rehearsal import made_up

BLOCK = 16
CONTEXT = 1024
ATTENTION: type[AttentionBackend] = BACKENDS[0]


def proven(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[PreTrainedModel, tuple[LayerShape, ...]]:
    """A model with random weights on the seam, and what it caches."""
    torch.manual_seed(0)
    config = Qwen3Config(**shape.config())
    model = Qwen3ForCausalLM._from_config(config, attn_implementation="eager", dtype=dtype).eval()
    model = model.requires_grad_(False).to(device)
    return model, prove(model, ATTENTION, architecture=shape.name, context=CONTEXT)


def pass_of(model: PreTrainedModel, cache: KVCache, rows: int, device: torch.device) -> Callable[[int], float]:
    """A timed pass over so many rows: one a sequence, or one sequence where they are many."""
    packer = Packer(seats=64, max_model_len=CONTEXT, block_size=BLOCK, device=device)
    packed = packer.pack(made_up(sequences=rows if rows <= 64 else 1, tokens=rows, block_size=BLOCK))
    forward = ModelForward(model)

    def compute() -> Tensor:
        quire = Pass(cache, packed.layout.slots, ATTENTION.plan(packed.layout))
        return forward.logits(packed.ids, packed.positions, packed.sampled_rows, quire)

    def timed(_: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return timed


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__ or "", rounds=9)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 512])
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype, device = getattr(torch, options.dtype), torch.device(options.device)
    shape = replace(SHAPES[options.shape], layers=options.layers)
    sides, rows = {}, []
    for count in range(len(PASSES) + 1):
        model, layers = proven(shape, dtype, device)
        began = time.perf_counter()
        found = fuse(model, PASSES[:count], layers, context=CONTEXT)
        name = PASSES[count - 1].name if count else "nothing"
        if not count or any(line.what == name and line.fused for line in found):
            sides[name] = model
            rows.append(Row({"fused so far": name, "rows": "proof"}, "ms", (time.perf_counter() - began) * 1e3))
    cache = KVCache.allocate(layers, CONTEXT // BLOCK, BLOCK, dtype, device)
    with torch.inference_mode():
        for count in options.rows:
            passes = {name: pass_of(model, cache, count, device) for name, model in sides.items()}
            turns(2, passes)
            taken = {name: median(seconds) * 1e3 for name, seconds in turns(options.rounds, passes).items()}
            for before, name in zip(list(taken), list(taken)[1:], strict=False):
                row = partial(Row, {"fused so far": name, "rows": count}, "ms")
                rows.append(row(taken[name], {"without it": taken[before], "nothing": taken["nothing"]}))
    finish("fusion", options, rows, card=torch.cuda.get_device_name() if options.device == "cuda" else None)


if __name__ == "__main__":
    main()
