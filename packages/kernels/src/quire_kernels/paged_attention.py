"""`paged_attention`: attention of packed spans over a paged cache; knows tables and lengths, not requests."""

import sys
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from quire_kernels._checks import FLOAT8, FLOATS, Checks, ShapeError, require_float8
from quire_kernels._cpu import TYPES, PagedAttention, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl

    from quire_kernels._tiles import dot


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
    key_scale: float = 1.0,
    value_scale: float = 1.0,
    invariant: bool = False,
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

    keys and values have q's dtype, or both are float8_e4m3fn; `key_scale` and `value_scale` multiply what lies in the
    cache, as `store_kv` divided by them. With `invariant` a query's answer is the same to the last bit whatever else is
    in the call, and however its sequence was cut into spans: the order of all sums is fixed. It costs some speed.

    Raises ShapeError (also if Hq is no multiple of Hkv), DtypeError, DeviceError. After Kwon et al. 2023
    (PagedAttention); sinks after Xiao et al. 2023.
    """
    result: Tensor = _paged_attention(
        q,
        keys,
        values,
        tables,
        starts,
        lengths,
        scale,
        window,
        softcap,
        sinks,
        max_query,
        max_length,
        key_scale,
        value_scale,
        invariant,
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
    key_scale: float,
    value_scale: float,
    invariant: bool,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("paged_attention")
    checks.require("q", q, "[T, Hq, D]", *FLOATS)
    checks.require("keys", keys, "[blocks, block, Hkv, D]", q.dtype, FLOAT8)
    checks.require("values", values, "[blocks, block, Hkv, Dv]", keys.dtype)
    checks.require("tables", tables, "[S, max_blocks]", torch.int32)
    checks.require("starts", starts, "[S+1]", torch.int32)
    checks.require("lengths", lengths, "[S]", torch.int32)
    if sinks is not None:
        checks.require("sinks", sinks, "[Hq]", *FLOATS)
    checks.expect(
        checks["Hkv"] > 0 and checks["Hq"] % checks["Hkv"] == 0,
        f"q has {checks['Hq']} heads and keys have {checks['Hkv']}; make the first a multiple of the second",
    )
    checks.expect(scale > 0, f"scale is {scale}; pass a positive number")
    checks.expect(window >= 0, f"window is {window}; pass 0 for no limit or the keys that a query sees")
    checks.expect(softcap >= 0, f"softcap is {softcap}; pass 0 to turn it off or a positive cap")
    checks.expect(key_scale > 0, f"key_scale is {key_scale}; pass what store_kv divided by, 1 for nothing")
    checks.expect(value_scale > 0, f"value_scale is {value_scale}; pass what store_kv divided by, 1 for nothing")


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
    key_scale: float,
    value_scale: float,
    invariant: bool,
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
            scores = torch.einsum("hd,khd->hk", q[row].double(), k[begin:end]) * (scale * key_scale)
            if softcap:
                scores = softcap * torch.tanh(scores / softcap)
            if sinks is not None:
                scores = torch.cat([scores, sinks.double()[:, None]], 1)
            weights = scores.softmax(1)[:, : end - begin]
            out[row] = torch.einsum("hk,khd->hd", weights, v[begin:end]) * value_scale
    return out


def by_library(
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
    key_scale: float,
    value_scale: float,
    invariant: bool,
) -> Tensor:
    """One call of csrc/cpu/attention.h, which reads the blocks where they lie.

    Parts of a context follow the sequence alone: neither company nor the number of threads ever changes a bit.
    """
    tokens, heads, size = q.shape
    _, block, kv_heads, v_size = values.shape
    out = q.new_empty(tokens, heads, v_size)
    longest = int(lengths.max()) if len(lengths) else 0
    _check_values(int(starts[-1]), tokens, tables.shape[1] * block, longest)
    starts, lengths = starts.contiguous(), lengths.contiguous()
    sinks = None if sinks is None else sinks.float().contiguous()
    kind = TYPES[q.dtype]
    op = PagedAttention(
        *map(pointer, (out, q, keys, values, tables, starts, lengths, sinks)), None,
        tokens, len(lengths), heads, kv_heads, size, v_size, block, *q.stride()[:2], *out.stride()[:2],
        *keys.stride()[:3], *values.stride()[:3], tables.stride(0), longest, window, scale * key_scale, softcap,
        kind, kind, kind, invariant,
    )  # fmt: skip
    assert library is not None
    scratch = library.scratch_of("paged_attention", op)
    op.scratch = scratch.data_ptr()
    library.run("paged_attention", op)
    return out if value_scale == 1 else out.mul_(value_scale)


def cpu(q: Tensor, keys: Tensor, *rest: Any) -> Tensor:
    """By the library where there is one; by torch also for float8, which the library's vectors do not know."""
    body = by_torch if library is None or keys.dtype == FLOAT8 else by_library
    return body(q, keys, *rest)


# Rows of scores in a tile: few enough to stay in a core's cache, and small causal tiles skip the keys after their last
# query; 128 was fastest, or near it, from 16 to 4,096 keys.
_TILE_ROWS = 128


def by_torch(
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
    key_scale: float,
    value_scale: float,
    invariant: bool,
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
        k = keys.index_select(0, blocks).flatten(0, 1)[:length].to(q.dtype)
        v = values.index_select(0, blocks).flatten(0, 1)[:length].to(q.dtype)
        _attend(q[first:last], k, v, out[first:last], scale * key_scale, window, softcap, sinks, invariant)
    return out if value_scale == 1 else out.mul_(value_scale)


def _check_values(rows: int, tokens: int, capacity: int, longest: int) -> None:
    """Refuse counts that the shapes do not allow; on a device nobody looks at them, on the host it costs nothing."""
    if rows > tokens:
        raise ShapeError(f"paged_attention: starts end at {rows}, but q has {tokens} rows; pass all of them")
    if longest > capacity:
        raise ShapeError(
            f"paged_attention: lengths go up to {longest}, but a row of tables holds {capacity} keys; pass more blocks"
        )


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
    invariant: bool,
) -> None:
    """One span, tile by tile: q [n, Hq, D], k [L, Hkv, D], v [L, Hkv, Dv] -> out [n, Hq, Dv]; last query at last key.

    The query heads of a key head are rows of one product, so that each key is read once for all of them. Invariant,
    a tile is one query: the shape of its products depends on its position alone.
    """
    queries, heads, _ = q.shape
    length, kv_heads, _ = k.shape
    group = heads // kv_heads
    k, v = k.transpose(0, 1), v.transpose(0, 1)  # [Hkv, L, D], [Hkv, L, Dv]
    # torch's fused kernel has neither cap nor sinks, gains over plain products in bfloat16 only, and crawls at one row.
    fused = q.dtype == torch.bfloat16 and not softcap and sinks is None and queries * group > 1 and not invariant
    if not fused:
        k, v = k.float(), v.float()
    tile = 1 if invariant else max(1, _TILE_ROWS // group)
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
    _LOG2E = tl.constexpr(1.4426950408889634)
    _TURNS = tl.constexpr(4)  # of the walk in the shortest segment that is worth a program of its own

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
    def _load_queries(
        q, first, end, kv_head, q_token, q_head,
        GROUP: tl.constexpr, PACK: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr,
    ):  # fmt: skip
        """A tile of queries [ROWS, D_PAD], PACK rows a token; whose rows they are, and which of them are real."""
        rows = tl.arange(0, TILE * PACK)
        token = first + rows // PACK
        head = kv_head * GROUP + rows % PACK
        real = (token < end) & (rows % PACK < GROUP)
        d = tl.arange(0, D_PAD)
        at = q + token.to(tl.int64)[:, None] * q_token + head[:, None] * q_head + d[None, :]
        queries = tl.load(at, mask=real[:, None] & _within(d, D, D_PAD)[None, :], other=0.0)
        return queries, token, head, real

    @triton.jit
    def _walk(
        acc, peak, total, queries, position, keys, values, table, begin, end, low, high,
        scale, softcap, k_block, k_slot, v_block, v_slot,
        D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
        PRECISION: tl.constexpr, MASKED: tl.constexpr,
    ):  # fmt: skip
        """Take the keys from begin to end into the running softmax, KEYS at a time.

        Masked, only keys in [low, high) are read; unmasked, every query of the tile sees every key of the way. What
        is multiplied and added in one rounding is spelt out, so that both give a query the same bits.
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

            scores = dot(queries, k.to(queries.dtype), None, PRECISION)  # [ROWS, KEYS]
            factor = scale * _LOG2E
            if SOFTCAP:
                scores = softcap * (2 * tl.sigmoid(2 * scale / softcap * scores) - 1)  # softcap * tanh(… / softcap)
                factor = _LOG2E
            if MASKED:
                seen = inside[None, :] & (key[None, :] <= position[:, None])
                if WINDOW:
                    seen &= key[None, :] > position[:, None] - WINDOW
                scores = tl.where(seen, scores, float("-inf"))

            new_peak = tl.maximum(peak, tl.max(scores, 1) * factor)
            base = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # a row that has seen no key yet
            weights = tl.exp2(tl.fma(scores, tl.zeros_like(scores) + factor, tl.zeros_like(scores) - base[:, None]))
            fade = tl.exp2(peak - base)
            total = tl.fma(total, fade, tl.sum(weights, 1))
            acc = dot(weights.to(queries.dtype), v.to(queries.dtype), acc * fade[:, None], PRECISION)
            peak = new_peak
        return acc, peak, total

    @triton.jit
    def _sweep(
        queries, position, earliest, latest, begin, end, keys, values, table,
        scale, softcap, k_block, k_slot, v_block, v_slot,
        ROWS: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """Attention to those keys in [begin, end) that queries at positions from earliest to latest see.

        Gives what `_merge` takes: weighted sums [ROWS, DV_PAD], largest scores and sums of weights [ROWS]. Keys are
        walked from whole multiples of KEYS on, so that the order of the sums does not depend on where a tile begins.
        """
        acc = tl.zeros([ROWS, DV_PAD], tl.float32)
        peak = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        # Some query sees keys in [low, high); from `inner` to `outer` all of them see whole chunks.
        high = tl.minimum(tl.maximum(latest + 1, 0), end)
        low = begin
        inner = begin
        if WINDOW:
            low = tl.maximum(earliest - WINDOW + 1, begin)
            whole = tl.cdiv(tl.maximum(latest - WINDOW + 1, 0), KEYS) * KEYS
            inner = tl.maximum(tl.minimum(whole, high), begin)
        outer = tl.maximum(tl.minimum(tl.maximum(earliest + 1, 0) // KEYS * KEYS, end), inner)
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
        return _walk(
            acc, peak, total, queries, position, keys, values, table, outer, high, low, high,
            scale, softcap, k_block, k_slot, v_block, v_slot,
            D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION, True,
        )  # fmt: skip

    @triton.jit
    def _nothing(sinks, head, real, ROWS: tl.constexpr, DV_PAD: tl.constexpr, SINKS: tl.constexpr):
        """What a row's softmax starts from: a sink is a score that came before all keys and has no value."""
        acc = tl.zeros([ROWS, DV_PAD], tl.float32)
        peak = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        if SINKS:
            peak = tl.load(sinks + head, mask=real, other=0.0).to(tl.float32) * _LOG2E
            total = tl.full([ROWS], 1.0, tl.float32)
        return acc, peak, total

    @triton.jit
    def _merge(acc, peak, total, more, more_peak, more_total):
        """Two parts of a softmax made one; the roundings are spelt out, so that every kernel gives the same bits."""
        new_peak = tl.maximum(peak, more_peak)
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        old = tl.exp2(peak - base)
        new = tl.exp2(more_peak - base)
        acc = tl.fma(acc, tl.zeros_like(acc) + old[:, None], more * new[:, None])
        return acc, new_peak, tl.fma(total, old, more_total * new)

    @triton.jit
    def _finish(
        acc, total, value_scale, out, token, head, real, o_token, o_head, DV: tl.constexpr, DV_PAD: tl.constexpr
    ):
        """Divide by the sum of the weights, and store."""
        dv = tl.arange(0, DV_PAD)
        answer = acc / tl.where(total == 0.0, 1.0, total)[:, None] * value_scale  # nothing seen: zeros
        at = out + token.to(tl.int64)[:, None] * o_token + head[:, None] * o_head + dv[None, :]
        tl.store(at, answer.to(out.dtype.element_ty), mask=real[:, None] & _within(dv, DV, DV_PAD)[None, :])

    # One program per (tile of queries, key head). A span's tiles begin at program starts[s] // TILE + s, so that
    # T // TILE + S programs suffice for any mix of spans and no length is needed on the host: one CUDA graph serves
    # them all, and programs past a span's last query return. One span more holds the padding rows: it sees nothing.
    # The query heads of the key head are packed into the tile, PACK rows a query. With SEGMENT, every so many keys of
    # a sequence are summed apart and then added to those before, as the kernels below do with programs of their own.
    @triton.jit(do_not_specialize=["tokens", "spans", "t_span"])  # they change from step to step: compile once
    def _attention(
        q, keys, values, tables, starts, lengths, sinks, out,
        tokens, spans, scale, softcap, value_scale,
        q_token, q_head, k_block, k_slot, k_head, v_block, v_slot, v_head, t_span, o_token, o_head,
        GROUP: tl.constexpr, PACK: tl.constexpr, TILE: tl.constexpr,
        D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr,
        PRECISION: tl.constexpr, SEGMENT: tl.constexpr,
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

        queries, token, head, real = _load_queries(
            q, first, end, kv_head, q_token, q_head, GROUP, PACK, TILE, D, D_PAD
        )  # fmt: skip
        position = length - end + token  # the query's place among its sequence's keys
        earliest = length - end + first
        latest = length - end + tl.minimum(first + TILE, end) - 1
        low = 0
        if WINDOW:
            low = tl.maximum(earliest - WINDOW + 1, 0)
        high = tl.maximum(latest + 1, 0)
        table = tables + span.to(tl.int64) * t_span
        keys += kv_head * k_head
        values += kv_head * v_head
        acc, peak, total = _nothing(sinks, head, real, TILE * PACK, DV_PAD, SINKS)
        if SEGMENT:
            for at in range(low // SEGMENT * SEGMENT, high, SEGMENT):
                more, more_peak, more_total = _sweep(
                    queries, position, earliest, latest, at, at + SEGMENT, keys, values, table,
                    scale, softcap, k_block, k_slot, v_block, v_slot,
                    TILE * PACK, D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION,
                )  # fmt: skip
                acc, peak, total = _merge(acc, peak, total, more, more_peak, more_total)
        else:
            more, more_peak, more_total = _sweep(
                queries, position, earliest, latest, low // KEYS * KEYS, high, keys, values, table,
                scale, softcap, k_block, k_slot, v_block, v_slot,
                TILE * PACK, D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION,
            )  # fmt: skip
            acc, peak, total = _merge(acc, peak, total, more, more_peak, more_total)
        _finish(acc, total, value_scale, out, token, head, real, o_token, o_head, DV, DV_PAD)

    @triton.jit
    def _cut(
        starts, lengths, spans, budget,
        SPANS: tl.constexpr, TILE: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SEGMENT: tl.constexpr,
    ):  # fmt: skip
        """How every span [SPANS] is cut: its tiles, its segments, the first one's first key; and a segment's keys.

        Without SEGMENT, segments are as long as lets about `budget` of them share all keys evenly.
        """
        s = tl.arange(0, SPANS)
        begin = tl.load(starts + s, mask=s < spans, other=0)
        end = tl.load(starts + s + 1, mask=s < spans, other=0)
        length = tl.load(lengths + s, mask=s < spans, other=0)
        align: tl.constexpr = SEGMENT if SEGMENT else KEYS
        origin = tl.zeros_like(length)
        if WINDOW:
            origin = tl.maximum(length - (end - begin) - WINDOW + 1, 0) // align * align
        tiles = tl.cdiv(end - begin, TILE)
        held = tl.maximum(length - origin, 0)
        segment = SEGMENT
        if SEGMENT == 0:
            share = tl.cdiv(tl.sum(tiles.to(tl.int64) * held, 0), budget).to(tl.int32)
            segment = tl.cdiv(tl.maximum(share, _TURNS * KEYS), KEYS) * KEYS
        return begin, end, length, origin, tiles, tl.cdiv(held, segment), segment

    @triton.jit
    def _pick(vector, at, SPANS: tl.constexpr):
        """One element of a vector."""
        return tl.sum(tl.where(tl.arange(0, SPANS) == at, vector, 0), 0)

    @triton.jit
    def _before(vector, at, SPANS: tl.constexpr):
        """The sum of a vector's elements before one of them."""
        return tl.sum(tl.where(tl.arange(0, SPANS) < at, vector, 0), 0)

    # One program per (segment of a tile's keys, key head): the work of few sequences, or of lengths far apart, shared
    # evenly. Each program cuts the spans anew rather than wait for one that does so. A tile whose span has one segment
    # is finished here; of others the parts go to `sums` [slots, Hkv, KEPT rows, DV], peaks and totals to `marks`.
    @triton.jit(do_not_specialize=["spans", "budget", "t_span"])
    def _attention_split(
        q, keys, values, tables, starts, lengths, sinks, out, sums, marks,
        spans, budget, scale, softcap, value_scale,
        q_token, q_head, k_block, k_slot, k_head, v_block, v_slot, v_head, t_span, o_token, o_head,
        GROUP: tl.constexpr, PACK: tl.constexpr, TILE: tl.constexpr,
        D: tl.constexpr, D_PAD: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr,
        PRECISION: tl.constexpr, SEGMENT: tl.constexpr, SPANS: tl.constexpr, KEPT: tl.constexpr,
    ):  # fmt: skip
        item = tl.program_id(0)
        kv_head = tl.program_id(1).to(tl.int64)
        begins, ends, all_lengths, origins, tiles, segments, segment = _cut(
            starts, lengths, spans, budget, SPANS, TILE, KEYS, WINDOW, SEGMENT
        )
        items = tiles * segments
        if item >= tl.sum(items, 0):
            return
        span = tl.sum((tl.cumsum(items, 0) <= item).to(tl.int32), 0)
        within = item - _before(items, span, SPANS)
        count = _pick(segments, span, SPANS)
        slot = _before(tl.where(segments > 1, items, 0), span, SPANS) + within
        end = _pick(ends, span, SPANS)
        length = _pick(all_lengths, span, SPANS)
        first = _pick(begins, span, SPANS) + within // count * TILE
        at = _pick(origins, span, SPANS) + within % count * segment
        earliest = length - end + first
        latest = length - end + tl.minimum(first + TILE, end) - 1
        hidden = latest < at
        if WINDOW:
            hidden |= at + segment <= earliest - WINDOW + 1
        if hidden & (count > 1):  # no query of this tile sees the segment, and nobody will ask for it
            return

        queries, token, head, real = _load_queries(
            q, first, end, kv_head, q_token, q_head, GROUP, PACK, TILE, D, D_PAD
        )  # fmt: skip
        more, more_peak, more_total = _sweep(
            queries, length - end + token, earliest, latest, at, at + segment,
            keys + kv_head * k_head, values + kv_head * v_head, tables + span.to(tl.int64) * t_span,
            scale, softcap, k_block, k_slot, v_block, v_slot,
            TILE * PACK, D, D_PAD, DV, DV_PAD, BLOCK, KEYS, WINDOW, SOFTCAP, PRECISION,
        )  # fmt: skip
        if count == 1:
            acc, peak, total = _nothing(sinks, head, real, TILE * PACK, DV_PAD, SINKS)
            acc, peak, total = _merge(acc, peak, total, more, more_peak, more_total)
            _finish(acc, total, value_scale, out, token, head, real, o_token, o_head, DV, DV_PAD)
        else:
            rows = tl.arange(0, TILE * PACK)
            dv = tl.arange(0, DV_PAD)
            place = (slot.to(tl.int64) * tl.num_programs(1) + kv_head) * KEPT + rows
            sums_at = sums + place[:, None] * DV + dv[None, :]
            tl.store(sums_at, more, mask=real[:, None] & _within(dv, DV, DV_PAD)[None, :])
            tl.store(marks + place * 2, more_peak, mask=real)
            tl.store(marks + place * 2 + 1, more_total, mask=real)

    # One program per (query, key head): adds up what `_attention_split` left, in the order of the keys, and gives
    # zeros to queries that nobody attended for: padding, and those of spans without keys.
    @triton.jit(do_not_specialize=["spans", "budget"])
    def _combine(
        starts, lengths, sinks, out, sums, marks, spans, budget, value_scale, o_token, o_head,
        GROUP: tl.constexpr, PACK: tl.constexpr, TILE: tl.constexpr, DV: tl.constexpr, DV_PAD: tl.constexpr,
        KEYS: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr, SEGMENT: tl.constexpr, SPANS: tl.constexpr,
        KEPT: tl.constexpr, AHEAD: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(0)
        kv_head = tl.program_id(1).to(tl.int64)
        begins, ends, all_lengths, origins, tiles, segments, segment = _cut(
            starts, lengths, spans, budget, SPANS, TILE, KEYS, WINDOW, SEGMENT
        )
        s = tl.arange(0, SPANS)
        span = tl.sum(((ends <= token) & (s < spans)).to(tl.int32), 0)  # `spans` for padding
        count = tl.sum(tl.where(s == span, segments, 0), 0)
        if count == 1:
            return
        position = _pick(all_lengths, span, SPANS) - _pick(ends, span, SPANS) + token
        origin = _pick(origins, span, SPANS)
        row = token - _pick(begins, span, SPANS)
        slot = _before(tl.where(segments > 1, tiles * segments, 0), span, SPANS) + row // TILE * count
        low = 0
        if WINDOW:
            low = tl.maximum(position - WINDOW + 1 - origin, 0) // segment
        high = tl.where(count > 0, tl.cdiv(tl.maximum(position + 1 - origin, 0), segment), 0)

        packed = tl.arange(0, PACK)
        head = kv_head * GROUP + packed
        real = packed < GROUP
        until = tl.zeros([PACK], tl.int32) + high
        dv = tl.arange(0, DV_PAD)
        acc, peak, total = _nothing(sinks, head, real, PACK, DV_PAD, SINKS)
        for turn in range(low, high, AHEAD):
            for index in tl.static_range(AHEAD):
                there = real & (turn + index < until)
                at = (slot + turn + index).to(tl.int64) * tl.num_programs(1) + kv_head
                place = at * KEPT + row % TILE * PACK + packed
                sums_at = sums + place[:, None] * DV + dv[None, :]
                more = tl.load(sums_at, mask=there[:, None] & _within(dv, DV, DV_PAD)[None, :], other=0.0)
                more_peak = tl.load(marks + place * 2, mask=there, other=float("-inf"))
                more_total = tl.load(marks + place * 2 + 1, mask=there, other=0.0)
                acc, peak, total = _merge(acc, peak, total, more, more_peak, more_total)
        rows = tl.zeros([PACK], tl.int32) + token
        _finish(acc, total, value_scale, out, rows, head, real, o_token, o_head, DV, DV_PAD)


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


_INVARIANT_ROWS = 64  # enough for wgmma, and still less work than a decode's keys take to arrive
_INVARIANT_SEGMENT = 2048  # keys
_WAVES = 4  # programs a processor among which the keys are shared
_MOST_SPANS = 2048  # every program cuts all spans anew; beyond it there are programs enough without
_MOST_PARTS = 1 << 28  # bytes of sums


class Cut(NamedTuple):
    """Whether segments get programs of their own, and the most there can be; follows from shapes and bounds alone."""

    split: bool
    budget: int  # segments, of one key head, among which all keys are shared evenly
    items: int  # programs of one key head
    slots: int  # parts that they leave to be combined

    @classmethod
    def of(
        cls, tiles: int, spans: int, kv_heads: int, reach: int, segment: int, least: int, processors: int, few: bool
    ) -> Self:
        """Choose for up to `tiles` tiles whose queries see up to `reach` keys.

        `segment` is how many keys one must have, 0 = any number from `least` on; `few`: tiles are as small as they get,
        so that one long sequence would keep its programs busy long after all others.
        """
        programs = _WAVES * processors
        budget = triton.cdiv(programs, kv_heads)
        split = 0 < spans <= _MOST_SPANS and reach > least and (few or tiles * kv_heads < programs)
        if segment:  # an even share needs no bound on lengths: n keys in segments of n / budget, and what is left over
            items = tiles * (triton.cdiv(reach, segment) + 1)
            return cls(split, budget, items, items)
        return cls(split, budget, budget + tiles, 2 * budget)


@cache
def _processors(device: torch.device) -> int:
    """The device's multiprocessors; a few where the interpreter stands in for one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


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
    key_scale: float,
    value_scale: float,
    invariant: bool,
) -> Tensor:
    """Launch over tiles of queries and key heads, and over segments of keys where that shares the work better."""
    require_float8(keys)
    tokens, heads, size = q.shape
    spans = len(lengths)
    _, block, kv_heads, v_size = values.shape
    out = q.new_empty(tokens, heads, v_size)
    if not tokens:
        return out
    pack = triton.next_power_of_2(heads // kv_heads)
    d_pad, dv_pad = (max(16, triton.next_power_of_2(n)) for n in (size, v_size))
    longest = min(tokens, max_query or tokens)
    usual = triton.cdiv(_INVARIANT_ROWS, pack) if invariant else min(triton.cdiv(tokens, max(spans, 1)), longest)
    tiling = Tiling.of(q.dtype, max(d_pad, dv_pad), pack, usual)
    tile = tiling.rows // pack
    tiles = tokens // tile + spans
    capacity = min(tables.shape[1] * block, max_length or sys.maxsize)
    reach = min(capacity, window + longest) if window else capacity
    segment = _INVARIANT_SEGMENT if invariant else 0
    few = tiling.rows == max(16, pack)
    least = segment or _TURNS.value * tiling.keys
    cut = Cut.of(tiles, spans, kv_heads, reach, segment, least, _processors(q.device), few)
    kept = min(tile, longest) * pack

    tensors = q, keys, values, tables, starts, lengths, sinks, out
    numbers = scale * key_scale, softcap, value_scale
    strides = (
        *q.stride()[:2], *keys.stride()[:3], *values.stride()[:3], tables.stride(0), *out.stride()[:2]
    )  # fmt: skip
    shape = {"GROUP": heads // kv_heads, "PACK": pack, "TILE": tile, "DV": v_size, "DV_PAD": dv_pad}
    shape |= {"KEYS": tiling.keys, "WINDOW": window, "SINKS": sinks is not None, "SEGMENT": segment}
    walk = {"D": size, "D_PAD": d_pad, "BLOCK": block, "SOFTCAP": softcap > 0}
    walk |= {"PRECISION": "ieee" if q.dtype == torch.float32 else "tf32"}
    launch = {"num_warps": tiling.warps, "num_stages": tiling.stages, "enable_fp_fusion": True}
    if not cut.split or cut.slots * kv_heads * kept * v_size * 4 > _MOST_PARTS:
        _attention[(tiles + 1, kv_heads)](*tensors, tokens, spans, *numbers, *strides, **shape, **walk, **launch)
        return out
    sums = q.new_empty(cut.slots, kv_heads, kept, v_size, dtype=torch.float32)
    marks = q.new_empty(cut.slots, kv_heads, kept, 2, dtype=torch.float32)
    shape |= {"SPANS": max(16, triton.next_power_of_2(spans)), "KEPT": kept}
    _attention_split[(cut.items, kv_heads)](
        *tensors, sums, marks, spans, cut.budget, *numbers, *strides, **shape, **walk, **launch
    )
    _combine[(tokens, kv_heads)](
        starts, lengths, sinks, out, sums, marks, spans, cut.budget, value_scale, *out.stride()[:2],
        **shape, AHEAD=4, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out


_paged_attention = define(
    "paged_attention(Tensor q, Tensor keys, Tensor values, Tensor tables, Tensor starts, Tensor lengths, float scale, "
    "int window, float softcap, Tensor? sinks, SymInt? max_query, SymInt? max_length, float key_scale, "
    "float value_scale, bool invariant) -> Tensor",
    check=check,
    fake=lambda q, keys, values, *_: q.new_empty(q.shape[0], q.shape[1], values.shape[-1]),
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
