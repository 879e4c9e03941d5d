"""Random attention problems over a paged cache, where everything that no query may see is NaN."""

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from quire_kernels.paged_attention import reference


@dataclass(frozen=True)
class Problem:
    """The arguments of one call of paged_attention."""

    q: Tensor
    keys: Tensor
    values: Tensor
    tables: Tensor
    starts: Tensor
    lengths: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.q, self.keys, self.values, self.tables, self.starts, self.lengths

    def exact(self) -> Tensor:
        """The reference's answer in float64."""
        options = {"window": 0, "softcap": 0.0, "sinks": None, "max_query": None, "max_length": None}
        options |= {"key_scale": 1.0, "value_scale": 1.0, "invariant": False} | self.options
        return reference(self.q.double(), *self.tensors[1:], **options)


@dataclass(frozen=True)
class Case:
    """What a problem is like; `spans` are (queries, length) pairs, the rest of the names are paged_attention's."""

    spans: tuple[tuple[int, int], ...]
    heads: int = 4
    kv_heads: int = 2
    size: int = 32
    v_size: int | None = None
    block: int = 8
    dtype: torch.dtype = torch.float32
    scale: float = 0.25
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False
    surplus: int = 0  # rows of q after the last span
    float8: bool = False  # whether the cache is, with scales other than 1
    invariant: bool = False

    def problem(self, seed: int = 0, device: str = "cpu") -> Problem:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.dtype)

        needs = [-(-length // self.block) for _, length in self.spans]
        free = iter((torch.randperm(sum(needs), generator=generator) + 1).tolist())
        tables = torch.zeros(len(needs), max(needs, default=0) + 2, dtype=torch.int32)  # block 0 belongs to nobody
        v_size = self.v_size or self.size
        keys = torch.full((sum(needs) + 1, self.block, self.kv_heads, self.size), torch.nan, dtype=self.dtype)
        values = torch.full((sum(needs) + 1, self.block, self.kv_heads, v_size), torch.nan, dtype=self.dtype)
        for table, need, (queries, length) in zip(tables, needs, self.spans, strict=True):
            unseen = max(0, length - queries - self.window + 1) if self.window else 0
            for index in range(unseen // self.block, need):  # the blocks before every window are given away
                table[index] = block = next(free)
                seen = slice(max(0, unseen - index * self.block), min(self.block, length - index * self.block))
                keys[block, seen] = random(self.block, self.kv_heads, self.size)[seen]
                values[block, seen] = random(self.block, self.kv_heads, v_size)[seen]
        counts = [queries for queries, _ in self.spans]
        q = torch.full((sum(counts) + self.surplus, self.heads, self.size), torch.nan, dtype=self.dtype)
        q[: sum(counts)] = random(sum(counts), self.heads, self.size)
        options: dict[str, Any] = {"scale": self.scale, "window": self.window, "softcap": self.softcap}
        if self.invariant:
            options["invariant"] = True
        if self.float8:
            keys, values = keys.to(torch.float8_e4m3fn), values.to(torch.float8_e4m3fn)
            options |= {"key_scale": 0.5, "value_scale": 3.0}
        if self.sinks:
            options["sinks"] = random(self.heads).to(device)
        starts = torch.tensor([0, *accumulate(counts)], dtype=torch.int32)
        lengths = torch.tensor([length for _, length in self.spans], dtype=torch.int32)
        tensors = (tensor.to(device) for tensor in (q, keys, values, tables, starts, lengths))
        return Problem(*tensors, options=options)


def error(answer: Tensor, exact: Tensor) -> float:
    """‖answer − exact‖ / ‖exact‖; the distance itself where the exact answer is zero."""
    exact = exact.double()
    return float((answer.double() - exact).norm() / (exact.norm() or 1))


# What error a body may have, in the roundings of its dtype.
LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}
MIX = ((1, 70), (6, 6), (0, 0), (5, 21), (1, 1))
# Every feature, branch and border of the op, small enough for Triton's interpreter.
CASES = {
    "single tokens": Case(((1, 1), (1, 7), (1, 8), (1, 33))),
    "whole prompts": Case(((9, 9), (17, 17))),
    "chunks": Case(((5, 20), (8, 40))),
    "a wild mix": Case(MIX),
    "many tiles": Case(((150, 170), (70, 70))),
    "lengths far apart": Case(((1, 400), (1, 1), (1, 2))),
    "empty spans": Case(((0, 0), (0, 13), (1, 4), (0, 5))),
    "queries before the first key": Case(((3, 0), (5, 2), (2, 9)), sinks=True),
    "padding rows": Case(MIX, surplus=5),
    "nothing but padding": Case((), surplus=3),
    "no queries": Case(((0, 3),)),
    "window of one": Case(MIX, window=1),
    "window inside a block": Case(MIX, window=5),
    "window over blocks": Case(((1, 70), (30, 60), (12, 12)), window=21),
    "window wider than all": Case(MIX, window=1000),
    "window on many tiles": Case(((150, 230),), window=40),
    "softcap": Case(MIX, softcap=1.5),
    "sinks": Case(MIX, sinks=True),
    "all features": Case(MIX, window=9, softcap=2.0, sinks=True, surplus=2, size=80, v_size=48),
    "one key head": Case(MIX, heads=6, kv_heads=1),
    "as many key heads": Case(MIX, heads=3, kv_heads=3),
    "three queries a key": Case(MIX, heads=6, kv_heads=2),
    "twenty queries a key": Case(MIX, heads=20, kv_heads=1, sinks=True),
    "size 64": Case(MIX, size=64),
    "size 96": Case(MIX, size=96),
    "size 112": Case(MIX, size=112),
    "size 128": Case(MIX, size=128),
    "size 256": Case(MIX, size=256, scale=0.0625),
    "values smaller than keys": Case(MIX, size=192, v_size=128),
    "values larger than keys": Case(MIX, size=32, v_size=64),
    "blocks of 24": Case(MIX, block=24),
    "blocks of 64": Case(MIX, block=64),
    "blocks of 256": Case(MIX, block=256),
}
# Long enough that keys are split among programs where these are few.
LONG = ((1, 300), (1, 7), (2, 130), (0, 90), (9, 200), (3, 0))
CASES |= {
    "few long sequences": Case(LONG, size=128),
    "one long sequence": Case(((1, 500),), heads=2, kv_heads=1, size=128),
    "a chunk far into its sequence": Case(((20, 300),), size=128),
    "long and windowed": Case(LONG, size=128, window=100),
    "long with all features": Case(LONG, size=128, window=75, softcap=2.0, sinks=True, surplus=2, v_size=48),
    "float8": Case(MIX, float8=True),
    "float8, long with all features": Case(LONG, size=128, window=75, softcap=2.0, sinks=True, float8=True),
    "float8, bfloat16": Case(MIX, dtype=torch.bfloat16, float8=True),
    "invariant": Case(MIX, invariant=True),
    "invariant, long with all features": Case(LONG, size=128, window=75, softcap=2.0, sinks=True, invariant=True),
}
CASES |= {
    f"{name}, {str(dtype).removeprefix('torch.')}": replace(CASES[name], dtype=dtype)
    for name in ("single tokens", "many tiles", "all features", "as many key heads")
    for dtype in (torch.float16, torch.bfloat16)
}
