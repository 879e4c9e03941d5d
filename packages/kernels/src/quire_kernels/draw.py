"""`draw`, `limited`, `uniforms`: a token for each row of logits, from what, by which number; knows no requests.

What stays is a function of a row's values alone, never of how a sort orders ties, and nothing here depends on the order
in which parallel programs add: shares are summed as integers.
"""

from typing import Any

import torch
from torch import Tensor

from quire_kernels._checks import FLOATS, Checks
from quire_kernels._cpu import TYPES, Draw, library, pointer
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def draw(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    *,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw a token from each row: the one in which `uniform` falls when probabilities lie side by side in id order.

    logits [R, V]; uniform [R] float64, between 0 and 1; temperature [R] float32 -> tokens [R] int64 and best [R]
    float32, each row's largest logit. Where that is not finite the token means nothing. Rows of temperature 0 take
    the largest logit, the first of equal ones, and are not changed by the rest:

    `min_p` [R] float32: tokens with less than so many times the probability of the likeliest are out; 0 = off.
    `top_k` [R] int64: then those are out to which k are likelier; 0 = off. `top_p` [R] float32: then those to which
    the likelier ones together have at least p of what is left; 1 = off. Equal logits stay or go together, the largest
    always stays. None is off for all rows.

    Raises ShapeError, DtypeError, DeviceError. Nucleus after Holtzman et al. 2020, min-p after Nguyen et al. 2024.
    """
    result: tuple[Tensor, Tensor] = _draw(logits, uniform, temperature, top_k, top_p, min_p)
    return result


def limited(
    logits: Tensor,
    temperature: Tensor,
    *,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
) -> Tensor:
    """The logits that `draw` draws by: divided by the temperature, minus infinity where a token is out.

    logits [R, V] and limits as `draw` takes them -> [R, V] float32. Rows of temperature 0 are as they were; of a row
    colder than 0.01 the largest logit becomes 0, as the others might overflow. For who wants to see what was drawn
    from: it sorts rows, on any device.
    Raises ShapeError, DtypeError, DeviceError.
    """
    check_limits(Checks("limited"), logits, temperature, top_k, top_p, min_p)
    logits = logits.float()
    below = logits.amax(-1, keepdim=True) - logits  # [R, V]
    _, is_out = _limit(below, temperature, top_k, top_p, min_p)
    heat, is_cold = temperature[:, None], (temperature < _COLD)[:, None]
    scaled = torch.where(is_cold, -below, logits).div_(heat).masked_fill_(is_out, float("-inf"))
    return torch.where(heat == 0, logits, scaled)


def uniforms(seeds: Tensor, choices: Tensor, positions: Tensor) -> Tensor:
    """One number strictly between 0 and 1 for each row, the same for the same three numbers whatever the batch.

    seeds, choices, positions [R] int64, read as 64 bits each -> [R] float64.
    Raises ShapeError, DtypeError, DeviceError. By splitmix64 (Steele, Lea and Flood 2014).
    """
    result: Tensor = _uniforms(seeds, choices, positions)
    return result


def check(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("draw")
    check_limits(checks, logits, temperature, top_k, top_p, min_p)
    checks.require("uniform", uniform, "[R]", torch.float64)


def check_limits(
    checks: Checks,
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> None:
    """Refuse logits and limits that do not fit together."""
    checks.require("logits", logits, "[R, V]", *FLOATS)
    checks.require("temperature", temperature, "[R]", torch.float32)
    if top_k is not None:
        checks.require("top_k", top_k, "[R]", torch.int64)
    if top_p is not None:
        checks.require("top_p", top_p, "[R]", torch.float32)
    if min_p is not None:
        checks.require("min_p", min_p, "[R]", torch.float32)
    checks.expect(
        0 < checks["V"] <= _LARGEST_VOCABULARY,
        f"logits has {checks['V']} columns; pass from 1 to {_LARGEST_VOCABULARY}",
    )


_COLD = 0.01  # temperature below which logits might overflow when they are divided by it
_LARGEST_VOCABULARY = 1 << 22  # 2**40 parts for each token's share leave the sum of all below 2**62


def check_uniforms(seeds: Tensor, choices: Tensor, positions: Tensor) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("uniforms")
    for name, tensor in (("seeds", seeds), ("choices", choices), ("positions", positions)):
        checks.require(name, tensor, "[R]", torch.int64)


def reference(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Row by row in float64, as the docstring of `draw` says it."""
    best = logits.float().amax(-1)
    tokens = torch.zeros_like(best, dtype=torch.int64)
    for row in range(len(logits)):
        below = (best[row] - logits[row].float()).double()
        if not best[row].isfinite():
            continue
        if temperature[row] == 0:
            tokens[row] = (below == 0).nonzero()[0, 0]
            continue
        weights = (-below / temperature[row].double()).exp()
        if min_p is not None:
            weights[weights < min_p[row].double()] = 0
        likelier = below[None, :] < below[:, None]  # [V, V]: whether the second token is likelier than the first
        if top_k is not None and top_k[row] > 0:
            weights[likelier.sum(1) >= top_k[row]] = 0
        if top_p is not None and top_p[row] < 1:
            shares = (likelier * weights).sum(1)
            weights[(shares >= top_p[row].double() * weights.sum()) & (below > 0)] = 0
        upper = weights.cumsum(0)
        tokens[row] = torch.searchsorted(upper, uniform[row] * upper[-1], right=True).clamp(max=len(upper) - 1)
    return tokens, best


def by_library(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One call of csrc/cpu/draw.h, which reads a row twice, and what is likely in it a few times more."""
    rows, size = logits.shape
    tokens = logits.new_empty(rows, dtype=torch.int64)
    best = logits.new_empty(rows, dtype=torch.float32)
    numbers = [x if x is None else x.contiguous() for x in (uniform, temperature, top_k, top_p, min_p)]
    tensors = map(pointer, (tokens, best, logits, *numbers))
    op = Draw(*tensors, None, rows, size, logits.stride(0), TYPES[logits.dtype])
    assert library is not None
    scratch = library.scratch_of("draw", op)
    op.scratch = scratch.data_ptr()
    library.run("draw", op)
    return tokens, best


def cpu(*args: Any) -> tuple[Tensor, Tensor]:
    """By the library where there is one."""
    return (by_torch if library is None else by_library)(*args)


def by_torch(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """All rows at once; thresholds are read off sorted rows."""
    logits = logits.float()
    best = logits.amax(-1)
    weights, _ = _limit(best[:, None] - logits, temperature, top_k, top_p, min_p)
    upper = weights.cumsum(-1)
    total = upper[:, -1:]
    at = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(upper, at, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)
    return torch.where(temperature == 0, logits.argmax(-1), drawn), best


def _limit(
    below: Tensor, temperature: Tensor, top_k: Tensor | None, top_p: Tensor | None, min_p: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What is out, and how likely the others are beside the likeliest one, by their distances [R, V] from it.

    -> weights [R, V] float64, 0 of what is out; and which those are. What it makes of rows of temperature 0 is nothing.
    """
    weights = (below / torch.where(temperature == 0, 1.0, temperature)[:, None]).neg_().exp_().double()
    is_out = torch.zeros_like(below, dtype=torch.bool)

    def exclude(tokens: Tensor) -> None:
        is_out.logical_or_(tokens)
        weights.masked_fill_(tokens, 0)

    if min_p is not None:
        exclude((weights < min_p[:, None].double()) & (weights < 1))
    if top_k is not None or top_p is not None:
        ordered, order = below.sort(-1)
        size = below.shape[1]
        if top_k is not None:
            k = torch.where((top_k > 0) & (top_k < size), top_k, size)[:, None]
            exclude(below > ordered.gather(1, k - 1))
        if top_p is not None:
            shares = weights.gather(1, order)
            reached = shares.cumsum(-1)
            staying = (reached - shares < top_p[:, None].double() * reached[:, -1:]).sum(-1, keepdim=True).clamp_(min=1)
            exclude((below > ordered.gather(1, staying - 1)) & (top_p < 1)[:, None])
    return weights, is_out


_STRIDE, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64's


def reference_uniforms(seeds: Tensor, choices: Tensor, positions: Tensor) -> Tensor:
    """Row by row in Python's integers."""
    words = 1 << 64

    def mix(word: int) -> int:
        word = (word + _STRIDE) % words
        word = (word ^ word >> 30) * _FIRST % words
        word = (word ^ word >> 27) * _SECOND % words
        return word ^ word >> 31

    def number(seed: int, choice: int, position: int) -> float:
        state = mix(mix(seed % words) ^ mix((choice + _STRIDE) % words))
        state = mix(state ^ mix(position * _STRIDE % words))
        return ((state >> 11) + 0.5) * 2.0**-53

    rows = zip(seeds.tolist(), choices.tolist(), positions.tolist(), strict=True)
    return torch.tensor([number(*row) for row in rows], dtype=torch.float64, device=seeds.device)


def cpu_uniforms(seeds: Tensor, choices: Tensor, positions: Tensor) -> Tensor:
    """All rows at once, in signed integers that wrap around; few calls of torch, as each costs more than its sums."""

    def shift(word: Tensor, by: int) -> Tensor:
        return (word >> by).bitwise_and_((1 << (64 - by)) - 1)

    def mix(word: Tensor) -> Tensor:
        word = word + _signed(_STRIDE)
        word.bitwise_xor_(shift(word, 30)).mul_(_signed(_FIRST))
        word.bitwise_xor_(shift(word, 27)).mul_(_signed(_SECOND))
        return word.bitwise_xor_(shift(word, 31))

    seed, choice, position = mix(torch.stack((seeds, choices + _signed(_STRIDE), positions * _signed(_STRIDE))))
    state = mix(mix(seed ^ choice) ^ position)
    return shift(state, 11).double().add_(0.5).mul_(2.0**-53)


def _signed(word: int) -> int:
    """The same 64 bits as a signed integer."""
    return word - (1 << 64) if word >> 63 else word


# How the Triton body finds a row's threshold. A token's key is the bits of its distance from the largest logit, which
# order as the distances do, whatever the temperature. The tokens likelier than a threshold are counted, or their shares
# summed, in buckets of like distances; then only the tokens of the one bucket in which the number or the share is
# reached are searched, by bisection of their keys.
_BUCKETS = 2048
_SPAN = 32.0  # distance that the buckets cover; the last one holds everything beyond, too
_CHUNK = 4096  # logits of a row that a program looks at

if HAS_TRITON:
    _LARGEST_KEY = tl.constexpr(0x7F7FFFFF)  # of a finite distance: a threshold at which all that is finite stays
    _PARTS = tl.constexpr(float(1 << 40))  # of the likeliest token's share, in which shares are counted

    @triton.jit
    def _load(row, at, SIZE: tl.constexpr):
        """Logits in float32, minus infinity beyond the row."""
        return tl.load(row + at, mask=at < SIZE, other=float("-inf")).to(tl.float32)

    @triton.jit
    def _best_of(bests, row, CHUNKS: tl.constexpr, CHUNKS_PAD: tl.constexpr):
        """A row's largest logit, from those of its chunks; no number if one of them is none."""
        chunk = tl.arange(0, CHUNKS_PAD)
        each = tl.load(bests + row * CHUNKS + chunk, mask=chunk < CHUNKS, other=float("-inf"))
        bad = tl.sum((each != each).to(tl.int32), 0) > 0
        return tl.where(bad, float("nan"), tl.max(tl.where(each != each, float("-inf"), each), 0))

    @triton.jit
    def _weights(key, heat, floor):
        """Which tokens are in play, by their keys, and how likely they are beside the likeliest one."""
        weight = tl.exp(-key.to(tl.float32, bitcast=True) / heat)
        return (key <= _LARGEST_KEY) & (weight >= floor), weight

    @triton.jit
    def _shares(key, heat, floor):
        """Shares of tokens in parts of the likeliest one's: whole numbers, whose sums have no order."""
        in_play, weight = _weights(key, heat, floor)
        return (tl.where(in_play, weight, 0.0) * _PARTS).to(tl.int64)

    @triton.jit
    def _key(best, x):
        """The bits of a logit's distance from the largest one; its sign is taken off: equal ones may differ by -0."""
        return tl.abs(best - x).to(tl.int32, bitcast=True)

    @triton.jit
    def _heat(temperature, min_p, row):
        """What a row's distances are divided by, and the least share that stays."""
        heat = tl.load(temperature + row)
        floor = tl.full([], 0.0, tl.float32)
        if min_p is not None:
            floor = tl.where(heat != 0, tl.minimum(tl.load(min_p + row), 1.0), 0.0)
        return tl.where(heat == 0, 1.0, heat), floor

    @triton.jit
    def _limits(temperature, top_k, top_p, row, SIZE: tl.constexpr):
        """A row's k, 0 where it is off, and its p, 1 where it is off."""
        heat = tl.load(temperature + row)
        k = tl.full([], 0, tl.int64)
        p = tl.full([], 1.0, tl.float32)
        if top_k is not None:
            k = tl.load(top_k + row)
            k = tl.where((heat != 0) & (k > 0) & (k < SIZE), k, 0)
        if top_p is not None:
            p = tl.where(heat != 0, tl.load(top_p + row), 1.0)
        return k, p

    @triton.jit
    def _bucket(key, BUCKETS: tl.constexpr, SPAN: tl.constexpr):
        distance = tl.minimum(key.to(tl.float32, bitcast=True), SPAN)
        return tl.minimum((distance * (BUCKETS / SPAN)).to(tl.int32), BUCKETS - 1)

    # One program per (row, chunk): the chunk's largest logit.
    @triton.jit
    def _survey(logits, bests, l_row, SIZE: tl.constexpr, CHUNK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        chunk = tl.program_id(1)
        x = _load(logits + row * l_row, chunk * CHUNK + tl.arange(0, CHUNK), SIZE)
        bad = tl.sum((x != x).to(tl.int32), 0) > 0
        best = tl.where(bad, float("nan"), tl.max(tl.where(x != x, float("-inf"), x), 0))
        tl.store(bests + row * tl.num_programs(1) + chunk, best)

    # One program per (row, chunk): counts its tokens into the row's buckets, and adds up their shares there.
    @triton.jit
    def _fill(
        logits, bests, temperature, top_k, top_p, min_p, counts, masses, l_row,
        SIZE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, CHUNKS_PAD: tl.constexpr,
        BUCKETS: tl.constexpr, SPAN: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        heat, floor = _heat(temperature, min_p, row)
        k, p = _limits(temperature, top_k, top_p, row, SIZE)
        if (k == 0) & (p >= 1):
            return
        best = _best_of(bests, row, CHUNKS, CHUNKS_PAD)
        x = _load(logits + row * l_row, tl.program_id(1) * CHUNK + tl.arange(0, CHUNK), SIZE)
        key = _key(best, x)
        in_play, _ = _weights(key, heat, floor)
        share = _shares(key, heat, floor)
        bucket = row * BUCKETS + _bucket(key, BUCKETS, SPAN)
        if k > 0:
            tl.atomic_add(counts + bucket, tl.full([CHUNK], 1, tl.int32), mask=in_play, sem="relaxed")
        if p < 1:
            tl.atomic_add(masses + bucket, share, mask=in_play, sem="relaxed")

    @triton.jit
    def _gather(
        row, best, heat, floor, bucket, keys, SIZE: tl.constexpr, CHUNK: tl.constexpr,
        BUCKETS: tl.constexpr, SPAN: tl.constexpr,
    ):  # fmt: skip
        """Put the keys of one bucket's tokens side by side; how many they are, the smallest and the largest."""
        found = 0
        low = 0x7FFFFFFF
        high = 0
        for chunk in range(0, SIZE, CHUNK):
            x = _load(row, chunk + tl.arange(0, CHUNK), SIZE)
            key = _key(best, x)
            inside, _ = _weights(key, heat, floor)
            inside &= _bucket(key, BUCKETS, SPAN) == bucket
            place = found + tl.cumsum(inside.to(tl.int32), 0) - 1
            tl.store(keys + place, key, mask=inside)
            found += tl.sum(inside.to(tl.int32), 0)
            low = tl.minimum(low, tl.min(tl.where(inside, key, 0x7FFFFFFF), 0))
            high = tl.maximum(high, tl.max(tl.where(inside, key, 0), 0))
        tl.debug_barrier()
        return found, low, high

    @triton.jit
    def _likelier(keys, found, key, heat, floor, CHUNK: tl.constexpr, MASS: tl.constexpr):
        """How many of the gathered tokens have a smaller key, or the sum of their shares."""
        total = tl.zeros([CHUNK], tl.int64)
        for chunk in range(0, found, CHUNK):
            at = chunk + tl.arange(0, CHUNK)
            each = tl.load(keys + at, mask=at < found, other=0x7FFFFFFF)
            total += tl.where(each < key, _shares(each, heat, floor) if MASS else 1, 0)
        return tl.sum(total, 0)

    @triton.jit
    def _bisect(keys, found, low, high, before, wanted, heat, floor, CHUNK: tl.constexpr, MASS: tl.constexpr):
        """The largest key to which the likelier tokens are, with those `before`, less than what is wanted."""
        while low < high:
            middle = low + (high - low + 1) // 2
            if before + _likelier(keys, found, middle, heat, floor, CHUNK, MASS) < wanted:
                low = middle
            else:
                high = middle - 1
        return low

    # One program per row: the largest key that stays. First by number, then by share of what that leaves.
    @triton.jit
    def _settle(
        logits, bests, temperature, top_k, top_p, min_p, counts, masses, keys, cuts, l_row,
        SIZE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, CHUNKS_PAD: tl.constexpr,
        BUCKETS: tl.constexpr, SPAN: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        heat, floor = _heat(temperature, min_p, row)
        k, p = _limits(temperature, top_k, top_p, row, SIZE)
        greedy = tl.load(temperature + row) == 0
        best = _best_of(bests, row, CHUNKS, CHUNKS_PAD)
        own = logits + row * l_row
        keys += row * SIZE
        b = tl.arange(0, BUCKETS)
        cut = tl.where(greedy, 0, _LARGEST_KEY)
        last = BUCKETS  # the bucket in which k was reached, and what stays of its share
        rest = tl.full([], 0, tl.int64)
        if k > 0:
            count = tl.load(counts + row * BUCKETS + b).to(tl.int64)
            bucket = tl.sum((tl.cumsum(count, 0) < k).to(tl.int32), 0)
            if bucket < BUCKETS:
                found, low, high = _gather(own, best, heat, floor, bucket, keys, SIZE, CHUNK, BUCKETS, SPAN)
                before = tl.sum(tl.where(b < bucket, count, 0), 0)
                cut = _bisect(keys, found, low, high, before, k, heat, floor, CHUNK, False)
                last = bucket
                rest = _likelier(keys, found, cut + 1, heat, floor, CHUNK, True)
                tl.debug_barrier()  # before the keys are overwritten
        if p < 1:
            mass = tl.load(masses + row * BUCKETS + b)
            mass = tl.where(b < last, mass, tl.where(b == last, rest, 0))
            share = tl.sum(mass, 0).to(tl.float64) * p.to(tl.float64)
            wanted = share.to(tl.int64)
            wanted += (wanted.to(tl.float64) < share).to(tl.int64)  # rounded up
            bucket = tl.sum((tl.cumsum(mass, 0) < wanted).to(tl.int32), 0)
            if bucket < BUCKETS:
                found, low, high = _gather(own, best, heat, floor, bucket, keys, SIZE, CHUNK, BUCKETS, SPAN)
                before = tl.sum(tl.where(b < bucket, mass, 0), 0)
                cut = tl.minimum(cut, _bisect(keys, found, low, high, before, wanted, heat, floor, CHUNK, True))
        tl.store(cuts + row, cut)

    # One program per (row, chunk): the share of those of its tokens that stay.
    @triton.jit
    def _add(
        logits, bests, temperature, min_p, cuts, totals, l_row,
        SIZE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, CHUNKS_PAD: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        chunk = tl.program_id(1)
        heat, floor = _heat(temperature, min_p, row)
        best = _best_of(bests, row, CHUNKS, CHUNKS_PAD)
        x = _load(logits + row * l_row, chunk * CHUNK + tl.arange(0, CHUNK), SIZE)
        key = _key(best, x)
        share = tl.where(key <= tl.load(cuts + row), _shares(key, heat, floor), 0)
        tl.store(totals + row * CHUNKS + chunk, tl.sum(share, 0))

    # One program per row: the chunk in which the number falls, then the token.
    @triton.jit
    def _find(
        logits, bests, uniform, temperature, min_p, cuts, totals, tokens, best_out, l_row,
        SIZE: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, CHUNKS_PAD: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        heat, floor = _heat(temperature, min_p, row)
        best = _best_of(bests, row, CHUNKS, CHUNKS_PAD)
        chunks = tl.arange(0, CHUNKS_PAD)
        total = tl.load(totals + row * CHUNKS + chunks, mask=chunks < CHUNKS, other=0)
        everything = tl.sum(total, 0)
        at = tl.minimum((tl.load(uniform + row) * everything.to(tl.float64)).to(tl.int64), everything - 1)
        at = tl.where(tl.load(temperature + row) == 0, 0, at)  # of equally large ones the first
        chunk = tl.minimum(tl.sum((tl.cumsum(total, 0) <= at).to(tl.int32), 0), CHUNKS - 1)
        at -= tl.sum(tl.where(chunks < chunk, total, 0), 0)
        x = _load(logits + row * l_row, chunk * CHUNK + tl.arange(0, CHUNK), SIZE)
        key = _key(best, x)
        share = tl.where(key <= tl.load(cuts + row), _shares(key, heat, floor), 0)
        token = chunk * CHUNK + tl.sum((tl.cumsum(share, 0) <= at).to(tl.int32), 0)
        tl.store(tokens + row, tl.minimum(token, SIZE - 1).to(tl.int64))
        tl.store(best_out + row, best)

    @triton.jit
    def _mix(word):
        """splitmix64's finalizer: every bit of the result depends on every bit of the word."""
        word += 0x9E3779B97F4A7C15
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB
        return word ^ (word >> 31)

    @triton.jit
    def _numbers(seeds, choices, positions, out, rows, PART: tl.constexpr):
        at = tl.program_id(0) * PART + tl.arange(0, PART)
        seed = tl.load(seeds + at, mask=at < rows, other=0).to(tl.uint64)
        choice = tl.load(choices + at, mask=at < rows, other=0).to(tl.uint64)
        position = tl.load(positions + at, mask=at < rows, other=0).to(tl.uint64)
        state = _mix(_mix(seed) ^ _mix(choice + 0x9E3779B97F4A7C15))
        state = _mix(state ^ _mix(position * 0x9E3779B97F4A7C15))
        number = ((state >> 11).to(tl.int64).to(tl.float64) + 0.5) * (1.0 / (1 << 53))
        tl.store(out + at, number, mask=at < rows)


def by_triton(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The largest logits, the thresholds where any are asked for, shares by chunk, then the token."""
    rows, size = logits.shape
    tokens = logits.new_empty(rows, dtype=torch.int64)
    best = logits.new_empty(rows, dtype=torch.float32)
    if not rows:
        return tokens, best
    chunk = min(_CHUNK, triton.next_power_of_2(size))
    chunks = triton.cdiv(size, chunk)
    shape = {"SIZE": size, "CHUNK": chunk}
    launch = {"num_warps": 8, "enable_fp_fusion": True}
    stride = logits.stride(0)
    bests = logits.new_empty(rows, chunks, dtype=torch.float32)
    totals = logits.new_empty(rows, chunks, dtype=torch.int64)
    _survey[(rows, chunks)](logits, bests, stride, **shape, **launch)
    shape |= {"CHUNKS": chunks, "CHUNKS_PAD": triton.next_power_of_2(chunks)}
    if top_k is None and top_p is None:
        cuts = torch.where(temperature == 0, 0, _LARGEST_KEY.value).int()
    else:
        cuts = logits.new_empty(rows, dtype=torch.int32)
        counts = logits.new_zeros(rows, _BUCKETS, dtype=torch.int32)
        masses = logits.new_zeros(rows, _BUCKETS, dtype=torch.int64)
        keys = logits.new_empty(rows, size, dtype=torch.int32)
        numbers = temperature, top_k, top_p, min_p
        buckets = {"BUCKETS": _BUCKETS, "SPAN": _SPAN}
        _fill[(rows, chunks)](logits, bests, *numbers, counts, masses, stride, **shape, **buckets, **launch)
        _settle[(rows,)](logits, bests, *numbers, counts, masses, keys, cuts, stride, **shape, **buckets, **launch)
    _add[(rows, chunks)](logits, bests, temperature, min_p, cuts, totals, stride, **shape, **launch)
    _find[(rows,)](logits, bests, uniform, temperature, min_p, cuts, totals, tokens, best, stride, **shape, **launch)
    return tokens, best


def by_triton_uniforms(seeds: Tensor, choices: Tensor, positions: Tensor) -> Tensor:
    """Launch over rows."""
    rows = len(seeds)
    out = seeds.new_empty(rows, dtype=torch.float64)
    if rows:
        _numbers[(triton.cdiv(rows, 128),)](
            seeds, choices, positions, out, rows, PART=128, num_warps=4, enable_fp_fusion=True
        )
    return out


_draw = define(
    "draw(Tensor logits, Tensor uniform, Tensor temperature, Tensor? top_k, Tensor? top_p, Tensor? min_p) "
    "-> (Tensor, Tensor)",
    check=check,
    fake=lambda logits, *_: (
        logits.new_empty(len(logits), dtype=torch.int64),
        logits.new_empty(len(logits), dtype=torch.float32),
    ),
    bodies={"reference": reference, "cpu": cpu, "torch": by_torch, "triton": by_triton},
)
_uniforms = define(
    "uniforms(Tensor seeds, Tensor choices, Tensor positions) -> Tensor",
    check=check_uniforms,
    fake=lambda seeds, *_: seeds.new_empty(len(seeds), dtype=torch.float64),
    bodies={"reference": reference_uniforms, "cpu": cpu_uniforms, "triton": by_triton_uniforms},
)
