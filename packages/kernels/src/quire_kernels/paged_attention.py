"""`paged_attention`: attention of packed spans over a paged cache; knows tables and lengths, not requests."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._select import define


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
    for table, (first, last), length in zip(tables, pairwise(starts.tolist()), lengths.tolist(), strict=True):
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
    # torch's fused kernel has neither cap nor sinks, gains over plain products in 16 bits only, and crawls at one row.
    fused = q.dtype != torch.float32 and not softcap and sinks is None and queries * group > 1
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


_paged_attention = define(
    "paged_attention(Tensor q, Tensor keys, Tensor values, Tensor tables, Tensor starts, Tensor lengths, float scale, "
    "int window, float softcap, Tensor? sinks, SymInt? max_query, SymInt? max_length) -> Tensor",
    check=check,
    fake=lambda q, keys, values, *_: q.new_empty(q.shape[0], q.shape[1], values.shape[-1]),
    bodies={"reference": reference, "cpu": cpu},
)
