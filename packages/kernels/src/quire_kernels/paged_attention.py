"""`paged_attention`: attention of packed spans over a paged cache; knows tables and lengths, not requests."""

from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from quire_kernels._checks import FLOATS, Checks, ShapeError
from quire_kernels._select import HAS_TRITON, INTERPRETED, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def paged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
    max_query: int | None = None,
    max_length: int | None = None,
) -> Tensor:
    """Causal attention of each query over its own sequence's cached keys and values.

    q [T, Hq, D], the queries of S spans one after another; keys [blocks, block, Hkv, D];
    values [blocks, block, Hkv, Dv]; tables [S, max_blocks] int32, each sequence's blocks in order; starts [S+1] int32,
    from 0, where each span's queries begin in q; lengths [S] int32, the keys that a span's last query sees
    -> [T, Hq, Dv], q's dtype; softmax in float32.

    The query before a span's last sees one key less, and so on. A span may be empty, and rows of q from `starts[-1]`
    on are padding: they, and queries with nothing to see, give zeros. Nothing that no query sees enters an answer.

    `scale` multiplies q.k; `window` is how many keys a query sees at most, itself included, 0 = no limit; `softcap` c
    turns a score x into c * tanh(x / c), 0 = off; `sinks` [Hq] joins each head's softmax as one more score without a
    value. `max_query` and `max_length` bound the longest span and the largest length from above, for bodies that plan
    on the host without reading device memory; a wrong bound gives wrong answers.

    Raises ShapeError (also if Hq is no multiple of Hkv), DtypeError, DeviceError. After Kwon et al. 2023
    (PagedAttention); sinks after Xiao et al. 2023.
    """
    result: Tensor = _paged_attention(
        q, keys, values, tables, starts, lengths, scale, window, softcap, sinks, max_query, max_length
    )
    return result


def check(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
    max_query: int | None,
    max_length: int | None,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("paged_attention")
    checks.require("q", q, "[T, Hq, D]", *FLOATS)
    checks.require("keys", keys, "[blocks, block, Hkv, D]", q.dtype)
    checks.require("values", values, "[blocks, block, Hkv, Dv]", q.dtype)
    checks.require("tables", tables, "[S, max_blocks]", torch.int32)
    checks.require("starts", starts, "[S+1]", torch.int32)
    checks.require("lengths", lengths, "[S]", torch.int32)
    if sinks is not None:
        checks.require("sinks", sinks, "[Hq]", *FLOATS)
    checks.expect(
        checks["Hkv"] > 0 and checks["Hq"] % checks["Hkv"] == 0,
        f"q has {checks['Hq']} heads and keys have {checks['Hkv']}; make the first a multiple of the second",
    )
    checks.expect(window >= 0, f"window is {window}; pass 0 for no limit or the keys that a query sees")
    checks.expect(softcap >= 0, f"softcap is {softcap}; pass 0 to turn it off or a positive cap")


def reference(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
    max_query: int | None,
    max_length: int | None,
) -> Tensor:
    """Span by span and query by query in float64, with nothing clever."""
    out = q.new_zeros(q.shape[0], q.shape[1], values.shape[-1])
    group = q.shape[1] // keys.shape[2]
    for table, (first, last), length in zip(tables, pairwise(starts.tolist()), lengths.tolist(), strict=True):
        k = keys[table].flatten(0, 1)[:length].double().repeat_interleave(group, 1)  # [L, Hq, D]
        v = values[table].flatten(0, 1)[:length].double().repeat_interleave(group, 1)  # [L, Hq, Dv]
        for row in range(first, last):
            end = length - (last - 1 - row)  # keys up to and including the query's own
            begin = max(0, end - window) if window else 0
            if end <= 0:
                continue
            scores = torch.einsum("hd,khd->hk", q[row].double(), k[begin:end]) * scale
            if softcap:
                scores = softcap * torch.tanh(scores / softcap)
            if sinks is not None:
                scores = torch.cat([scores, sinks.double()[:, None]], 1)
            weights = scores.softmax(1)[:, : end - begin]
            out[row] = torch.einsum("hk,khd->hd", weights, v[begin:end])
    return out


# Rows of scores in a tile: few enough to stay in a core's cache, and small causal tiles skip the keys after their last
# query; 128 was fastest, or near it, from 16 to 4,096 keys.
_TILE_ROWS = 128


def cpu(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
    max_query: int | None,
    max_length: int | None,
) -> Tensor:
    """Span by span: gather the blocks that it sees, then dense attention of one tile of queries after another.

    Spans are not padded to one another and meet in no product, so the company that a sequence keeps cannot change its
    answer; beyond a hundred keys of context this was also faster than one masked product over the batch.
    """
    out = q.new_zeros(q.shape[0], q.shape[1], values.shape[-1])
    block = keys.shape[1]
    bounds, ends = starts.tolist(), lengths.tolist()
    _check_values(bounds[-1], len(q), tables.shape[1] * block, max(ends, default=0))
    for table, (first, last), length in zip(tables, pairwise(bounds), ends, strict=True):
        first = max(first, last - length)  # a query before its sequence's first key sees nothing
        if first >= last:
            continue
        unseen = max(0, length - (last - first) - window + 1) // block if window else 0  # blocks before every window
        blocks = table[unseen : -(-length // block)]
        length -= unseen * block
        k = keys.index_select(0, blocks).flatten(0, 1)[:length]
        v = values.index_select(0, blocks).flatten(0, 1)[:length]
        _attend(q[first:last], k, v, out[first:last], scale, window, softcap, sinks)
    return out


def _check_values(rows: int, tokens: int, capacity: int, longest: int) -> None:
    """Refuse counts that the shapes do not allow; on a device nobody looks at them, on the host it costs nothing."""
    if rows > tokens:
        raise ShapeError(f"paged_attention: starts end at {rows}, but q has {tokens} rows; pass all of them")
    if longest > capacity:
        raise ShapeError(
            f"paged_attention: lengths go up to {longest}, but a row of tables holds {capacity} keys; pass more blocks"
        )


def _attend(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, scale: float, window: int, softcap: float, sinks: Tensor | None
) -> None:
    """One span, tile by tile: q [n, Hq, D], k [L, Hkv, D], v [L, Hkv, Dv] -> out [n, Hq, Dv]; last query at last key.

    The query heads of a key head are rows of one product, so that each key is read once for all of them.
    """
    queries, heads, _ = q.shape
    length, kv_heads, _ = k.shape
    group = heads // kv_heads
    k, v = k.transpose(0, 1), v.transpose(0, 1)  # [Hkv, L, D], [Hkv, L, Dv]
    # torch's fused kernel has neither cap nor sinks, gains over plain products in bfloat16 only, and crawls at one row.
    fused = q.dtype == torch.bfloat16 and not softcap and sinks is None and queries * group > 1
    if not fused:
        k, v = k.float(), v.float()
    tile = max(1, _TILE_ROWS // group)
    for first in range(0, queries, tile):
        last = min(first + tile, queries)
        high = length - queries + last
        low = max(0, high - (last - first) - window + 1) if window else 0
        rows = q[first:last].reshape(-1, kv_heads, group, q.shape[2]).transpose(0, 1).flatten(1, 2)  # [Hkv, n*group, D]
        seen = _visible(last - first, high - low, window, group) if last - first > 1 else None
        if fused:
            answer = scaled_dot_product_attention(
                rows[None], k[None, :, low:high], v[None, :, low:high], seen, scale=scale
            )
        else:
            answer = _explicit(rows.float() * scale, k[:, low:high], v[:, low:high], seen, softcap, sinks)
        out[first:last] = answer.view(kv_heads, -1, group, v.shape[2]).transpose(0, 1).flatten(1, 2)


def _visible(queries: int, length: int, window: int, group: int) -> Tensor:
    """Which keys each row of a tile sees, [n * group, L]: its last query sits at its last key."""
    back = torch.arange(length - queries, length)[:, None] - torch.arange(length)  # how far behind the query a key lies
    seen = (back >= 0) & (back < window) if window else back >= 0
    return seen.repeat_interleave(group, 0)


def _explicit(rows: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, softcap: float, sinks: Tensor | None) -> Tensor:
    """Attention as its formula says, in float32: rows [Hkv, n * group, D], scaled; k [Hkv, L, D]; v [Hkv, L, Dv]."""
    scores = torch.bmm(rows, k.transpose(1, 2))  # [Hkv, n * group, L]
    if softcap:
        scores.div_(softcap).tanh_().mul_(softcap)
    if seen is not None:
        scores.masked_fill_(~seen, -torch.inf)
    if sinks is not None:
        sink = sinks.float().view(len(k), 1, -1).expand(-1, rows.shape[1] * len(k) // len(sinks), -1)
        scores = torch.cat([scores, sink.reshape(len(k), -1, 1)], 2)
    return torch.bmm(scores.softmax(2)[:, :, : k.shape[1]], v)


if HAS_TRITON:
    _INTERPRETED = tl.constexpr(INTERPRETED)
    _LOG2E = tl.constexpr(1.4426950408889634)

    @triton.jit
    def _dot(a, b, acc, PRECISION: tl.constexpr):
        if _INTERPRETED:  # its product would multiply the bit patterns of bfloat16
            a, b = a.to(tl.float32), b.to(tl.float32)
        return tl.dot(a, b, acc, input_precision=PRECISION)

    @triton.jit
    def _within(at, SIZE: tl.constexpr, PAD: tl.constexpr):
        """Which places of a padded head are real; where all are, the compiler is told so and loads without a mask."""
        return tl.full([PAD], True, tl.int1) if SIZE == PAD else at < SIZE

    @triton.jit
    def _span_of(tile, starts, spans, TILE: tl.constexpr):
        """Find a tile's span: the last s with starts[s] // TILE + s <= tile."""
        low = 0
        high = spans
        while low < high:
            middle = (low + high + 1) // 2
            if tl.load(starts + middle) // TILE + middle <= tile:
                low = middle
            else:
                high = middle - 1
        return low

    @triton.jit
    def _walk(
        acc, peak, total, queries, position, keys, values, table, begin, end, low, high,
        scale, softcap, k_block, k_slot, v_block, v_slot,
        D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
        PRECISION: tl.constexpr, MASKED: tl.constexpr,
    ):  # fmt: skip
        """Take the keys from begin to end into the running softmax, KEYS at a time.

        Masked, only keys in [low, high) are read; unmasked, every query of the tile sees every key of the way.
        """
        d = tl.arange(0, D_PAD)
        dv = tl.arange(0, DV_PAD)
        for chunk in range(begin, end, KEYS):
            key = chunk + tl.arange(0, KEYS)
            inside = (key >= low) & (key < high) if MASKED else tl.full([KEYS], True, tl.int1)
            block = tl.load(table + key // BLOCK, mask=inside, other=0).to(tl.int64)
            k_at = keys + (block * k_block + (key % BLOCK) * k_slot)[None, :] + d[:, None]
            v_at = values + (block * v_block + (key % BLOCK) * v_slot)[:, None] + dv[None, :]
            k = tl.load(k_at, mask=inside[None, :] & _within(d, D, D_PAD)[:, None], other=0.0)  # [D_PAD, KEYS]
            v = tl.load(v_at, mask=inside[:, None] & _within(dv, DV, DV_PAD)[None, :], other=0.0)  # [KEYS, DV_PAD]

            scores = _dot(queries, k, None, PRECISION) * scale  # [ROWS, KEYS]
            if SOFTCAP:
                scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # softcap * tanh(scores / softcap)
            scores *= _LOG2E
            if MASKED:
                seen = inside[None, :] & (key[None, :] <= position[:, None])
                if WINDOW:
                    seen &= key[None, :] > position[:, None] - WINDOW
                scores = tl.where(seen, scores, float("-inf"))

            new_peak = tl.maximum(peak, tl.max(scores, 1))
            base = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # a row that has seen no key yet
            weights = tl.exp2(scores - base[:, None])
            fade = tl.exp2(peak - base)
            total = total * fade + tl.sum(weights, 1)
            acc = _dot(weights.to(v.dtype), v, acc * fade[:, None], PRECISION)
            peak = new_peak
        return acc, peak, total

    # One program per (tile of queries, key head). A span's tiles begin at program starts[s] // TILE + s, so that
    # T // TILE + S programs suffice for any mix of spans and no length is needed on the host: one CUDA graph serves
    # them all, and programs past a span's last query return. One span more holds the padding rows: it sees nothing.
    # The query heads of the key head are packed into the tile, PACK rows a query. Keys are walked from whole
    # multiples of KEYS on, so that the order of the sums does not depend on how the batch was cut into tiles.
    @triton.jit(do_not_specialize=["tokens", "spans", "t_span"])  # they change from step to step: compile once
    def _attention(
        q, keys, values, tables, starts, lengths, sinks, out,
        tokens, spans, scale, softcap,
        q_token, q_head, k_block, k_slot, k_head, v_block, v_slot, v_head, t_span, o_token, o_head,
        GROUP: tl.constexpr, PACK: tl.constexpr, TILE: tl.constexpr,
        D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr,
        PRECISION: tl.constexpr,
    ):  # fmt: skip
        tile = tl.program_id(0)
        kv_head = tl.program_id(1).to(tl.int64)
        span = _span_of(tile, starts, spans, TILE)
        begin = tl.load(starts + span)
        end = tl.load(starts + span + 1, mask=span < spans, other=tokens)
        length = tl.load(lengths + span, mask=span < spans, other=0)
        first = begin + (tile - begin // TILE - span) * TILE
        if first >= end:
            return

        rows = tl.arange(0, TILE * PACK)
        token = first + rows // PACK
        head = kv_head * GROUP + rows % PACK
        real = (token < end) & (rows % PACK < GROUP)
        position = length - end + token  # the query's place among its sequence's keys
        d = tl.arange(0, D_PAD)
        q_at = q + token.to(tl.int64)[:, None] * q_token + head[:, None] * q_head + d[None, :]
        queries = tl.load(q_at, mask=real[:, None] & _within(d, D, D_PAD)[None, :], other=0.0)  # [ROWS, D_PAD]

        acc = tl.zeros([TILE * PACK, DV_PAD], tl.float32)
        if SINKS:  # a sink is a score that came before all keys and has no value
            peak = tl.load(sinks + head, mask=real, other=0.0).to(tl.float32) * _LOG2E
            total = tl.full([TILE * PACK], 1.0, tl.float32)
        else:
            peak = tl.full([TILE * PACK], float("-inf"), tl.float32)
            total = tl.zeros([TILE * PACK], tl.float32)

        # Keys in [low, high) are seen by some query of the tile; from `inner` to `outer` all queries see whole chunks.
        earliest = length - end + first
        latest = length - end + tl.minimum(first + TILE, end) - 1
        high = tl.maximum(latest + 1, 0)
        low = 0
        inner = 0
        if WINDOW:
            low = tl.maximum(earliest - WINDOW + 1, 0)
            inner = tl.minimum(tl.cdiv(tl.maximum(latest - WINDOW + 1, 0), KEYS) * KEYS, high)
        outer = tl.maximum(tl.maximum(earliest + 1, 0) // KEYS * KEYS, inner)

        table = tables + span.to(tl.int64) * t_span
        keys += kv_head * k_head
        values += kv_head * v_head
        if WINDOW:
            acc, peak, total = _walk(
                acc, peak, total, queries, position, keys, values, table, low // KEYS * KEYS, inner, low, high,
                scale, softcap, k_block, k_slot, v_block, v_slot,
                D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION, True,
            )  # fmt: skip
        acc, peak, total = _walk(
            acc, peak, total, queries, position, keys, values, table, inner, outer, low, high,
            scale, softcap, k_block, k_slot, v_block, v_slot,
            D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION, False,
        )  # fmt: skip
        acc, peak, total = _walk(
            acc, peak, total, queries, position, keys, values, table, outer, high, low, high,
            scale, softcap, k_block, k_slot, v_block, v_slot,
            D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION, True,
        )  # fmt: skip

        dv = tl.arange(0, DV_PAD)
        answer = acc / tl.where(total == 0.0, 1.0, total)[:, None]  # nothing seen: zeros
        o_at = out + token.to(tl.int64)[:, None] * o_token + head[:, None] * o_head + dv[None, :]
        tl.store(o_at, answer.to(out.dtype.element_ty), mask=real[:, None] & _within(dv, DV, DV_PAD)[None, :])


class Tiling(NamedTuple):
    """How the Triton body cuts its work; follows from shapes alone, never from lengths."""

    rows: int  # of queries in a program: tokens * packed heads
    keys: int  # in one turn of the walk; from head size and dtype only, as the order of the sums must not vary
    warps: int
    stages: int

    @classmethod
    def of(cls, dtype: torch.dtype, size: int, group: int, queries: int) -> Self:
        """Choose for heads of `size` (padded), `group` (padded) query heads a key head and `queries` in a usual span.

        By the compiler's report for sm_90: 32 KiB of queries and 16 KiB in each buffer of keys and of values fill the
        registers and leave room for two programs a processor. float32 multiplies outside the tensor cores, where
        half of that spills nothing. Below 64 rows mma.sync runs and memory is what counts: two more stages in flight.
        """
        budget = 16384 if dtype.itemsize == 2 else 8192  # bytes
        row = size * dtype.itemsize
        keys = min(128, max(16, budget // row))
        most = min(128, max(16, 2 * budget // row))
        rows = max(16, group, min(most, triton.next_power_of_2(queries * group)))
        wide = dtype.itemsize == 4 or rows >= 128 or rows * size >= 16384
        return cls(rows, keys, warps=8 if wide else 4, stages=5 if rows < 64 else 3)


def by_triton(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
    max_query: int | None,
    max_length: int | None,
) -> Tensor:
    """Launch over tiles of queries and key heads."""
    tokens, heads, size = q.shape
    spans = len(lengths)
    _, block, kv_heads, v_size = values.shape
    out = q.new_empty(tokens, heads, v_size)
    pack = triton.next_power_of_2(heads // kv_heads)
    d_pad, dv_pad = (max(16, triton.next_power_of_2(n)) for n in (size, v_size))
    queries = min(triton.cdiv(tokens, max(spans, 1)), max_query or tokens)
    tiling = Tiling.of(q.dtype, max(d_pad, dv_pad), pack, queries)
    tile = tiling.rows // pack
    _attention[(tokens // tile + spans + 1, kv_heads)](
        q, keys, values, tables, starts, lengths, sinks, out, tokens, spans, scale, softcap,
        *q.stride()[:2], *keys.stride()[:3], *values.stride()[:3], tables.stride(0), *out.stride()[:2],
        GROUP=heads // kv_heads, PACK=pack, TILE=tile, D=size, D_PAD=d_pad, DV=v_size, DV_PAD=dv_pad,
        BLOCK=block, KEYS=tiling.keys, WINDOW=window, SOFTCAP=softcap > 0, SINKS=sinks is not None,
        PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        num_warps=tiling.warps, num_stages=tiling.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out


_paged_attention = define(
    "paged_attention(Tensor q, Tensor keys, Tensor values, Tensor tables, Tensor starts, Tensor lengths, float scale, "
    "int window, float softcap, Tensor? sinks, SymInt? max_query, SymInt? max_length) -> Tensor",
    check=check,
    fake=lambda q, keys, values, *_: q.new_empty(q.shape[0], q.shape[1], values.shape[-1]),
    bodies={"reference": reference, "cpu": cpu, "triton": by_triton},
)
