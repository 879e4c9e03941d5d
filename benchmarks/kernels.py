"""How near each op of quire_kernels comes to what this machine allows, and how it stands beside others' bodies.

usage: python -m benchmarks.kernels [--ops paged_attention linear ...] [--dtype bfloat16] [--device cpu|cuda]
                                    [--seconds 1] [--json auto]

The limit of an op is the time in which its bytes pass at the measured rate and its products are done at the rate of a
large one. Sides take turns, over several layers' caches and weights, so that none stays warm; medians of what is left
after warming up. Attention's peers: torch over keys that already lie dense and of one length, with each backend that
takes them, so spared the gathering; FlashInfer over the very same blocks, where it can be imported on CUDA. The others'
peer is what torch has for the same thing, in as few calls as it takes. An op that this version lacks is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, cycle
from typing import Any

import torch
from benchmarks import limits
from benchmarks.bench import Row, arguments, finish, median, table
from benchmarks.limits import Limits
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import quire_kernels

Run = Callable[[], object]
BLOCK = 16
EPS = 1e-6
COLD = 96 << 20
"""Bytes over which inputs rotate: more than any processor's caches."""
WORKSPACE = 128 << 20
"""Bytes that FlashInfer works in."""


@dataclass(frozen=True)
class Sizes:
    """What is timed on a kind of device, with the widths of a model that people run there."""

    heads: int
    kv_heads: int
    hidden: int
    inner: int
    tokens: tuple[int, ...]
    """Tokens of a step."""
    decodes: tuple[tuple[int, ...], ...]
    """Lengths of the sequences of which each has one query."""
    prompts: tuple[tuple[int, int], ...]
    """(queries, keys) of a chunk."""
    experts: tuple[int, int, int] = (16, 4, 768)
    """How many, how many a token takes, how wide each is."""
    head: int = 128


SIZES = {
    "cpu": Sizes(
        heads=16,
        kv_heads=8,
        hidden=1024,
        inner=3072,
        tokens=(1, 8, 32, 512),
        decodes=((128,), (1100,), (128,) * 8, (1100,) * 8, (128,) * 32, (1100,) * 32),
        prompts=((128, 128), (512, 512), (512, 2048)),
    ),
    "cuda": Sizes(
        heads=32,
        kv_heads=8,
        hidden=4096,
        inner=14336,
        tokens=(1, 64, 8192),
        decodes=((4096,), (32768,), (4096,) * 8, (4096,) * 64, (65536, *(1024,) * 63)),
        prompts=((8192, 8192), (2048, 8192)),
        experts=(64, 8, 1408),
    ),
}


@dataclass(frozen=True)
class Bench:
    """The device, the data type and the sizes of this run."""

    device: str
    dtype: torch.dtype
    sizes: Sizes
    best: Limits
    seconds: float

    def random(self, *shape: int) -> Tensor:
        """Normal numbers of our data type."""
        return torch.randn(shape, device=self.device).to(self.dtype)

    def copies(self, *shape: int) -> int:
        """How many tensors of this shape it takes to leave the caches cold."""
        return max(2, min(64, COLD // (torch.Size(shape).numel() * self.dtype.itemsize)))

    def rotating(self, *shape: int) -> Iterator[Tensor]:
        """Tensors of this shape, endlessly, none of them warm."""
        return cycle([self.random(*shape) for _ in range(self.copies(*shape))])

    def row(self, op: str, shape: str, ours: Run, peers: Mapping[str, Run], moved: float, operations: float = 0) -> Row:
        """Time one case. `moved` counts numbers, not bytes."""
        taken = times({"ours": ours, **peers}, self.device, self.seconds)
        work = moved * self.dtype.itemsize, operations
        return Row(
            {"op": op, "shape": shape},
            "us",
            taken["ours"] * 1e6,
            {name: taken[name] * 1e6 for name in peers},
            limit=self.best.seconds(*work) * 1e6,
            work=work,
        )


def times(runs: Mapping[str, Run], device: str, seconds: float) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    if device == "cuda":
        from triton.testing import do_bench

        return {name: do_bench(run, return_mode="median") / 1e3 for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    ends = time.perf_counter() + seconds
    for turn in range(1000):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
        if turn >= 7 and time.perf_counter() > ends:
            break
    return {name: median(several[2:]) for name, several in taken.items()}


def stores(bench: Bench) -> Iterator[Row]:
    """Keys and values of one step into scattered slots."""
    heads, size = bench.sizes.kv_heads, bench.sizes.head
    for tokens in bench.sizes.tokens:
        slots = max(4096, 2 * tokens)
        caches = bench.rotating(2, slots // BLOCK, BLOCK, heads, size)
        key, value = bench.random(2, tokens, heads, size)
        where = torch.randperm(slots, device=bench.device)[:tokens]

        def peer(caches: Any = caches, new: Any = (key, value), where: Tensor = where) -> None:
            for cache, rows in zip(next(caches), new, strict=True):
                cache.view(-1, *cache.shape[2:]).index_copy_(0, where, rows)

        def ours(caches: Any = caches, new: Any = (key, value), where: Tensor = where) -> None:
            quire_kernels.store_kv(*new, *next(caches), where)

        yield bench.row("store_kv", f"{tokens} tokens", ours, {"torch": peer}, 4 * tokens * heads * size)


def attentions(bench: Bench) -> Iterator[Row]:
    """Spans of one query each, then chunks of prompts."""
    for lengths in bench.sizes.decodes:
        skewed = f", then {lengths[-1]}" if lengths[-1] != lengths[0] else ""
        yield attention(bench, f"{len(lengths)} x 1 at {lengths[0]}{skewed}", 1, lengths)
    for queries, length in bench.sizes.prompts:
        yield attention(bench, f"1 x {queries} at {length}", queries, (length,))


def attention(bench: Bench, shape: str, queries: int, lengths: tuple[int, ...]) -> Row:
    """Spans of `queries` tokens each, at the ends of sequences of these lengths."""
    sizes, spans, longest = bench.sizes, len(lengths), max(lengths)
    counts = [-(-length // BLOCK) for length in lengths]
    caches = bench.rotating(2, sum(counts), BLOCK, sizes.kv_heads, sizes.head)
    scattered = torch.randperm(sum(counts), dtype=torch.int32).split(counts)
    tables = torch.nn.utils.rnn.pad_sequence(list(scattered), batch_first=True).to(bench.device)
    q = bench.random(spans * queries, sizes.heads, sizes.head)
    starts = torch.arange(0, spans * queries + 1, queries, dtype=torch.int32, device=bench.device)
    ends = torch.tensor(lengths, dtype=torch.int32, device=bench.device)

    def ours() -> Tensor:
        scale = sizes.head**-0.5
        return quire_kernels.paged_attention(
            q, *next(caches), tables, starts, ends, scale=scale, max_query=queries, max_length=longest
        )

    peers = dense_attention(bench, q, queries, longest) if min(lengths) == longest else {}
    if bench.device == "cuda" and importlib.util.find_spec("flashinfer"):
        peers["flashinfer"] = flashinfer(bench, q, caches, queries, lengths, torch.cat(scattered).to(bench.device))
    seen = sum(queries * (length - queries) + queries * (queries + 1) / 2 for length in lengths)  # query and key pairs
    moved = 2 * sum(lengths) * sizes.kv_heads * sizes.head + 2 * q.numel()
    return bench.row("paged_attention", shape, ours, peers, moved, seen * 4 * sizes.heads * sizes.head)


def dense_attention(bench: Bench, q: Tensor, queries: int, length: int) -> dict[str, Run]:
    """Torch's attention with each backend that takes it, over keys that lie as it likes them best."""
    sizes, spans = bench.sizes, len(q) // queries
    turns = bench.rotating(2, spans, sizes.kv_heads, length, sizes.head)
    # A decode's query heads as rows of their key head's product, not as heads of one row each.
    rows = (
        q.view(spans, sizes.kv_heads, -1, sizes.head)
        if queries == 1
        else q.view(spans, queries, sizes.heads, sizes.head).transpose(1, 2)
    )
    whole = queries == length
    behind = torch.arange(length - queries, length, device=bench.device)[:, None]
    mask = None if whole or queries == 1 else behind >= torch.arange(length, device=bench.device)

    def run(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(
                rows, *next(turns), mask, is_causal=whole, enable_gqa=queries > 1
            )

    found: dict[str, Run] = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            run(backend)
        except RuntimeError:  # this backend takes no such device, mask or grouping
            continue
        found[f"torch {backend.name.removesuffix('_ATTENTION').lower()}"] = partial(run, backend)
    return found or {"torch math": partial(run, SDPBackend.MATH)}


def flashinfer(
    bench: Bench, q: Tensor, caches: Iterator[Tensor], queries: int, lengths: tuple[int, ...], blocks: Tensor
) -> Run:
    """FlashInfer over the same blocks, planned beforehand."""
    import flashinfer as library

    sizes, spans = bench.sizes, len(lengths)
    counts = [-(-length // BLOCK) for length in lengths]
    ends = torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=bench.device)
    rest = torch.tensor([(length - 1) % BLOCK + 1 for length in lengths], dtype=torch.int32, device=bench.device)
    space = torch.empty(WORKSPACE, dtype=torch.uint8, device=bench.device)
    widths = (sizes.heads, sizes.kv_heads, sizes.head, BLOCK)
    kinds = {"q_data_type": bench.dtype, "kv_data_type": bench.dtype}
    if queries == 1:
        wrapper = library.BatchDecodeWithPagedKVCacheWrapper(space, "NHD", use_tensor_cores=True)
        wrapper.plan(ends, blocks, rest, *widths, **kinds)
    else:
        wrapper = library.BatchPrefillWithPagedKVCacheWrapper(space, "NHD")
        starts = torch.arange(0, spans * queries + 1, queries, dtype=torch.int32, device=bench.device)
        wrapper.plan(starts, ends, blocks, rest, *widths, causal=True, **kinds)
    return lambda: wrapper.run(q, tuple(next(caches)))


def norms(bench: Bench) -> Iterator[Row]:
    """The norm of a layer's input, without and with the residual."""
    hidden, weight = bench.sizes.hidden, bench.random(bench.sizes.hidden)
    for tokens in bench.sizes.tokens:
        inputs = bench.rotating(tokens, hidden)
        rest = bench.random(tokens, hidden)

        def added(inputs: Any = inputs, rest: Tensor = rest) -> Tensor:
            return functional.rms_norm(rest.add_(next(inputs)), (hidden,), weight, EPS)

        yield bench.row(
            "rms_norm",
            f"{tokens} x {hidden}",
            lambda inputs=inputs: quire_kernels.rms_norm(next(inputs), weight, eps=EPS),
            {"torch": lambda inputs=inputs: functional.rms_norm(next(inputs), (hidden,), weight, EPS)},
            2 * tokens * hidden,
        )
        yield bench.row(
            "add_rms_norm",
            f"{tokens} x {hidden}",
            lambda inputs=inputs, rest=rest: quire_kernels.add_rms_norm(next(inputs), rest, weight, eps=EPS),
            {"torch": added},
            4 * tokens * hidden,
        )


def rotations(bench: Bench) -> Iterator[Row]:
    """Queries and keys of a step turned by their positions."""
    sizes = bench.sizes
    for tokens in sizes.tokens:
        heads = bench.rotating(tokens, sizes.heads + sizes.kv_heads, sizes.head)
        angle = torch.rand(tokens, sizes.head // 2, device=bench.device)
        cos, sin = angle.cos(), angle.sin()
        wide = [torch.cat((each, each), -1)[:, None].to(bench.dtype) for each in (cos, sin)]

        def ours(heads: Any = heads, cos: Tensor = cos, sin: Tensor = sin) -> None:
            quire_kernels.rotary(*next(heads).split([sizes.heads, sizes.kv_heads], 1), cos, sin)

        def peer(heads: Any = heads, wide: list[Tensor] = wide) -> Tensor:
            x = next(heads)
            left, right = x.chunk(2, -1)
            return x * wide[0] + torch.cat((-right, left), -1) * wide[1]

        moved = 2 * tokens * (sizes.heads + sizes.kv_heads) * sizes.head
        yield bench.row("rotary", f"{tokens} tokens", ours, {"torch": peer}, moved)


def gates(bench: Bench) -> Iterator[Row]:
    """The gated activation of an MLP."""
    inner = bench.sizes.inner
    for tokens in bench.sizes.tokens:
        inputs = bench.rotating(tokens, 2 * inner)

        def peer(inputs: Any = inputs) -> Tensor:
            gate, up = next(inputs).chunk(2, -1)
            return functional.silu(gate) * up

        yield bench.row(
            "gated",
            f"{tokens} x {inner}",
            lambda inputs=inputs: quire_kernels.gated(next(inputs), activation="silu"),
            {"torch": peer},
            3 * tokens * inner,
        )


def linears(bench: Bench) -> Iterator[Row]:
    """The two products of an MLP with weights packed once, of each kind; the peer's are plain."""
    if bench.device == "cuda":
        return  # a model keeps torch's there
    hidden, inner = bench.sizes.hidden, bench.sizes.inner
    for rows, columns in ((2 * inner, hidden), (hidden, inner)):
        plain = [bench.random(rows, columns) for _ in range(bench.copies(rows, columns))]
        for kind, bits in ((None, 8 * bench.dtype.itemsize), ("int8", 8), ("int4", 4)):
            packed = [quire_kernels.pack_linear(weight, kind=kind) for weight in plain]
            for tokens in bench.sizes.tokens:
                x, weights, others = bench.random(tokens, columns), cycle(packed), cycle(plain)
                moved = rows * columns * bits / 8 / bench.dtype.itemsize + tokens * (rows + columns)
                yield bench.row(
                    f"linear {kind or ''}".strip(),
                    f"{tokens} x {columns} x {rows}",
                    lambda x=x, weights=weights: quire_kernels.linear(x, next(weights)),
                    {"torch": lambda x=x, others=others: functional.linear(x, next(others))},
                    moved,
                    2 * tokens * rows * columns,
                )


def mixtures(bench: Bench) -> Iterator[Row]:
    """The experts of a layer, every token taking a few at random; the peer asks them one after another."""
    count, taken, inner = bench.sizes.experts
    hidden = bench.sizes.hidden
    gate_up, down = bench.random(count, 2 * inner, hidden), bench.random(count, hidden, inner)
    for tokens in bench.sizes.tokens:
        x = bench.random(tokens, hidden)
        scores, ids = torch.rand(tokens, count, device=bench.device).softmax(-1).topk(taken)

        def peer(x: Tensor = x, scores: Tensor = scores, ids: Tensor = ids) -> Tensor:
            out = torch.zeros_like(x)
            for expert in ids.unique().tolist():
                rows, slot = (ids == expert).nonzero(as_tuple=True)
                gate, up = functional.linear(x[rows], gate_up[expert]).chunk(2, -1)
                answer = functional.linear(functional.silu(gate) * up, down[expert])
                out.index_add_(0, rows, answer * scores[rows, slot, None].to(x.dtype))
            return out

        def ours(x: Tensor = x, scores: Tensor = scores, ids: Tensor = ids) -> Tensor:
            return quire_kernels.experts(x, gate_up, down, ids, scores, activation="silu")

        used = len(ids.unique())
        moved = used * 3 * inner * hidden + 2 * tokens * hidden
        operations = tokens * taken * 6 * inner * hidden
        yield bench.row("experts", f"{tokens} x {taken} of {count}", ours, {"torch": peer}, moved, operations)


OPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "store_kv": stores,
    "paged_attention": attentions,
    "rms_norm": norms,
    "rotary": rotations,
    "gated": gates,
    "linear": linears,
    "experts": mixtures,
}


def measured(bench: Bench, ops: list[str]) -> list[Row]:
    """The rows of these ops, printed as they come."""
    rows = []
    with torch.inference_mode():
        for op in ops:
            if not hasattr(quire_kernels, op):
                print(f"{op}: left out: this version of quire_kernels has none", flush=True)
                continue
            for row in OPS[op](bench):
                rows.append(row)
                print(table([row]).splitlines()[-1], flush=True)
    return rows


def options_and_bench() -> tuple[argparse.Namespace, Bench]:
    """What was asked, and the limits measured for it."""
    parser = arguments(__doc__)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS))
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=1.0, help="time for one case on a CPU")
    options = parser.parse_args()
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    best = limits.measure(dtype, options.device, options.threads)
    return options, Bench(options.device, dtype, SIZES[options.device], best, options.seconds)


def main() -> None:
    """Measure, print, write."""
    options, bench = options_and_bench()
    rows = measured(bench, options.ops)
    card = torch.cuda.get_device_name() if options.device == "cuda" else None
    finish(f"kernels-{options.dtype}", options, rows, card=card, limits=vars(bench.best))


if __name__ == "__main__":
    main()
