"""How near each op of quire_kernels comes to what this machine allows, and to torch's attention on dense keys.

usage: python benchmarks/kernels.py [--dtype bfloat16] [--device cpu|cuda] [--threads N] [--json FILE]

The limit of an op is the time in which its bytes pass at the copy rate and its products at the rate of a large matrix
product, both measured first. The peer is torch's scaled_dot_product_attention over keys that already lie dense and of
one length (index_copy_ for store_kv), so it is spared the gathering. Ours and the peer take turns over several layers'
caches, so that no cache stays warm; medians of what is left after warming up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from quire_kernels import paged_attention, store_kv
from results import machine, table, write

HEADS, KV_HEADS, SIZE, BLOCK = 16, 8, 128, 16  # Qwen3-0.6B's
Run = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What is timed on a kind of device."""

    steps: tuple[int, ...]  # tokens stored at once
    spans: tuple[int, ...]  # sequences decoded together
    lengths: tuple[int, ...]  # keys of each of them
    prompts: tuple[tuple[int, int], ...]  # (queries, keys) of a chunk


ON_CPU = Sizes((1, 32, 512), (1, 8, 32), (128, 1100), ((128, 128), (512, 512), (512, 2048)))
ON_CUDA = Sizes((1, 256, 8192), (1, 8, 64), (4096, 32768), ((8192, 8192), (2048, 8192)))


@dataclass(frozen=True)
class Rates:
    """What the machine does at best: bytes and floating point operations a second."""

    copy: float
    product: float

    def limit(self, moved: float, operations: float) -> float:
        """Seconds below which the work cannot be done."""
        return max(moved / self.copy, operations / self.product)


def times(*runs: Run, device: str) -> list[float]:
    """Median seconds of each, taking turns."""
    if device == "cuda":
        from triton.testing import do_bench

        return [do_bench(run, return_mode="median") / 1e3 for run in runs]
    taken: list[list[float]] = [[] for _ in runs]
    ends = time.perf_counter() + 1.0
    for turn in range(1000):
        for run, seconds in zip(runs, taken, strict=True):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        if turn >= 7 and time.perf_counter() > ends:
            break
    return [statistics.median(seconds[2:]) for seconds in taken]


def rates(dtype: torch.dtype, device: str) -> Rates:
    """Measure how fast this device copies and multiplies."""
    source = torch.zeros(1 << (30 if device == "cuda" else 27), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    side = 8192 if device == "cuda" else 1024
    matrix = torch.randn(side, side, device=device).to(dtype)
    copied, multiplied = times(lambda: target.copy_(source), lambda: matrix @ matrix, device=device)
    return Rates(copy=2 * source.numel() / copied, product=2 * side**3 / multiplied)


def caches(spans: int, length: int, dtype: torch.dtype, device: str) -> tuple[Iterator[tuple[Tensor, Tensor]], Tensor]:
    """Caches of several layers, endlessly, and the table that scatters every sequence over them."""
    blocks = -(-length // BLOCK)
    bytes_a_layer = 2 * spans * blocks * BLOCK * KV_HEADS * SIZE * dtype.itemsize
    layers = max(2, min(28, (128 << 20) // bytes_a_layer))
    shape = (2, spans * blocks, BLOCK, KV_HEADS, SIZE)
    made = [tuple(torch.randn(shape, device=device).to(dtype)) for _ in range(layers)]
    tables = torch.randperm(spans * blocks).view(spans, blocks).to(device, torch.int32)
    return cycle(made), tables


def attention(
    name: str, spans: int, queries: int, length: int, dtype: torch.dtype, device: str, best: Rates
) -> dict[str, Any]:
    """Spans of `queries` tokens each at the end of `length` keys."""
    layers, tables = caches(spans, length, dtype, device)
    q = torch.randn(spans * queries, HEADS, SIZE, device=device).to(dtype)
    starts = torch.arange(0, spans * queries + 1, queries, dtype=torch.int32, device=device)
    lengths = torch.full((spans,), length, dtype=torch.int32, device=device)

    def ours() -> Tensor:
        keys, values = next(layers)
        return paged_attention(
            q, keys, values, tables, starts, lengths, scale=SIZE**-0.5, max_query=queries, max_length=length
        )

    dense = [
        tuple(torch.randn(2, spans, KV_HEADS, length, SIZE, device=device).to(dtype))
        for _ in range(2 if spans > 8 else 4)
    ]
    turns = cycle(dense)
    # The peer at its best: a decode's query heads as rows of their key head's product, not as heads of one row.
    rows = q.view(spans, KV_HEADS, -1, SIZE) if queries == 1 else q.view(spans, queries, HEADS, SIZE).transpose(1, 2)
    behind = torch.arange(length - queries, length, device=device)[:, None] - torch.arange(length, device=device)
    whole = queries == length
    mask = None if whole or queries == 1 else behind >= 0

    def peer() -> Tensor:
        k, v = next(turns)
        return scaled_dot_product_attention(rows, k, v, mask, is_causal=whole, enable_gqa=queries > 1)

    seen = queries * (length - queries) + queries * (queries + 1) / 2  # pairs of query and key
    moved = spans * (2 * length * KV_HEADS + 2 * queries * HEADS) * SIZE * dtype.itemsize
    limit = best.limit(moved, spans * seen * 4 * HEADS * SIZE)
    return row(name, f"{spans} x {queries} at {length}", *times(ours, peer, device=device), limit)


def storing(tokens: int, dtype: torch.dtype, device: str, best: Rates) -> dict[str, Any]:
    """Rows of one step into scattered slots."""
    layers, _ = caches(1, max(4096, 2 * tokens), dtype, device)
    key, value = torch.randn(2, tokens, KV_HEADS, SIZE, device=device).to(dtype)
    slots = torch.randperm(max(4096, 2 * tokens), device=device)[:tokens]

    def ours() -> None:
        store_kv(key, value, *next(layers), slots)

    def peer() -> None:
        for cache, new in zip(next(layers), (key, value), strict=True):
            cache.view(-1, KV_HEADS, SIZE).index_copy_(0, slots, new)

    limit = best.limit(4 * tokens * KV_HEADS * SIZE * dtype.itemsize, 0)
    return row("store_kv", f"{tokens} tokens", *times(ours, peer, device=device), limit)


def row(op: str, shape: str, ours: float, peer: float, limit: float) -> dict[str, Any]:
    return {
        "op": op,
        "shape": shape,
        "ours (us)": ours * 1e6,
        "peer (us)": peer * 1e6,
        "ratio": peer / ours,
        "limit (us)": limit * 1e6,
        "share of limit": limit / ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype, device = getattr(torch, options.dtype), options.device
    large = device == "cuda"
    with torch.inference_mode():
        best = rates(dtype, device)
        sizes = ON_CUDA if large else ON_CPU
        rows = [storing(tokens, dtype, device, best) for tokens in sizes.steps]
        rows += [
            attention("decode", *shape, dtype, device, best) for shape in product(sizes.spans, (1,), sizes.lengths)
        ]
        rows += [attention("prefill", 1, *shape, dtype, device, best) for shape in sizes.prompts]
    print(
        f"{device}, {options.dtype}: {best.copy / 1e9:.1f} GB/s copied, {best.product / 1e12:.2f} TFLOP/s multiplied\n"
    )
    print(table(rows))
    host = machine() | {"threads": options.threads, "device": torch.cuda.get_device_name() if large else "cpu"}
    write(options.json, f"kernels-{device}-{options.dtype}", {"machine": host, "rates": vars(best), "rows": rows})


if __name__ == "__main__":
    main()
