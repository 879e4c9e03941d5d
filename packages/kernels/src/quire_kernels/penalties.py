"""`penalties`: tokens that were there already become less likely; knows tables of tokens, not whose they are."""

import torch
from torch import Tensor

from quire_kernels._checks import Checks
from quire_kernels._select import HAS_TRITON, define

if HAS_TRITON:
    import triton
    import triton.language as tl


def penalties(
    logits: Tensor,
    rows: Tensor,
    tokens: Tensor,
    firsts: Tensor,
    prompts: Tensor,
    lengths: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> None:
    """Penalise, in n of the rows of logits, the tokens of the rows' own sequences, in place.

    logits [R, V] float32; rows [n] int64, which of them, none twice; tokens [n, L] int64, their sequences, of which
    those in columns firsts .. lengths - 1 count and those from column prompts on are output (firsts, prompts, lengths
    [n] int64, firsts <= prompts); repetition, presence, frequency [n] float32.

    A token that was there gets its logit divided by `repetition` if that is positive and else multiplied by it. Then
    `presence` is taken off the logits of output tokens, and `frequency` as many times as they were there. 1, 0 and 0
    change nothing. Costs as much as there are tokens, whatever the vocabulary.
    Raises ShapeError, DtypeError, DeviceError. After Keskar et al. 2019 (CTRL) and the OpenAI API.
    """
    _penalties(logits, rows, tokens, firsts, prompts, lengths, repetition, presence, frequency)


def check(
    logits: Tensor,
    rows: Tensor,
    tokens: Tensor,
    firsts: Tensor,
    prompts: Tensor,
    lengths: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> None:
    """Refuse arguments that do not fit together."""
    checks = Checks("penalties")
    checks.require("logits", logits, "[R, V]", torch.float32)
    checks.require("rows", rows, "[n]", torch.int64)
    checks.require("tokens", tokens, "[n, L]", torch.int64)
    for name, tensor in (("firsts", firsts), ("prompts", prompts), ("lengths", lengths)):
        checks.require(name, tensor, "[n]", torch.int64)
    for name, tensor in (("repetition", repetition), ("presence", presence), ("frequency", frequency)):
        checks.require(name, tensor, "[n]", torch.float32)


def reference(
    logits: Tensor,
    rows: Tensor,
    tokens: Tensor,
    firsts: Tensor,
    prompts: Tensor,
    lengths: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> None:
    """Row by row and token by token, in Python's numbers."""
    for n, row in enumerate(rows.tolist()):
        sequence = tokens[n, : lengths[n]].tolist()
        output = sequence[int(prompts[n]) :]
        for token in set(sequence[int(firsts[n]) :]):
            logit = float(logits[row, token])
            logit = logit / float(repetition[n]) if logit > 0 else logit * float(repetition[n])
            if token in output:
                logit -= float(presence[n]) + float(frequency[n]) * output.count(token)
            logits[row, token] = logit


def cpu(
    logits: Tensor,
    rows: Tensor,
    tokens: Tensor,
    firsts: Tensor,
    prompts: Tensor,
    lengths: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> None:
    """Row by row, all of its tokens at once."""
    spans = zip(rows.tolist(), firsts.tolist(), prompts.tolist(), lengths.tolist(), strict=True)
    for n, (row, first, prompt, length) in enumerate(spans):
        seen = torch.unique(tokens[n, first:length])
        scores = logits[row, seen]
        logits[row, seen] = torch.where(scores > 0, scores / repetition[n], scores * repetition[n])
        output, counts = torch.unique(tokens[n, prompt:length], return_counts=True)
        logits[row, output] -= presence[n] + frequency[n] * counts


if HAS_TRITON:
    # One program per row, so that its phases wait for one another: a token that is there many times is read as often
    # before it is written, then written as often with the same number, and only counted by additions.
    @triton.jit
    def _penalise(
        logits, rows, tokens, firsts, prompts, lengths, repetition, presence, frequency, scores,
        l_row, t_row, s_row, PART: tl.constexpr,
    ):  # fmt: skip
        n = tl.program_id(0).to(tl.int64)
        row = logits + tl.load(rows + n) * l_row
        tokens += n * t_row
        scores += n * s_row
        first = tl.load(firsts + n).to(tl.int32)
        prompt = tl.load(prompts + n).to(tl.int32)
        length = tl.load(lengths + n).to(tl.int32)
        factor = tl.load(repetition + n)
        once = tl.load(presence + n)
        each = tl.load(frequency + n)
        for part in range(first, length, PART):
            at = part + tl.arange(0, PART)
            token = tl.load(tokens + at, mask=at < length, other=0)
            score = tl.load(row + token, mask=at < length, other=0.0)
            tl.store(scores + at, tl.where(score > 0, score / factor, score * factor), mask=at < length)
        tl.debug_barrier()
        for part in range(first, length, PART):
            at = part + tl.arange(0, PART)
            token = tl.load(tokens + at, mask=at < length, other=0)
            tl.store(row + token, tl.load(scores + at, mask=at < length, other=0.0), mask=at < length)
        tl.debug_barrier()
        for part in range(prompt, length, PART):
            at = part + tl.arange(0, PART)
            token = tl.load(tokens + at, mask=at < length, other=0)
            tl.store(row + token, tl.load(scores + at, mask=at < length, other=0.0) - once, mask=at < length)
        tl.debug_barrier()
        if each != 0:
            for part in range(prompt, length, PART):
                at = part + tl.arange(0, PART)
                token = tl.load(tokens + at, mask=at < length, other=0)
                tl.atomic_add(row + token, tl.zeros([PART], tl.float32) - each, mask=at < length)


def by_triton(
    logits: Tensor,
    rows: Tensor,
    tokens: Tensor,
    firsts: Tensor,
    prompts: Tensor,
    lengths: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> None:
    """Launch over rows."""
    count, longest = tokens.shape
    if count and longest:
        scores = logits.new_empty(count, longest)
        _penalise[(count,)](
            logits, rows, tokens, firsts, prompts, lengths, repetition, presence, frequency, scores,
            logits.stride(0), tokens.stride(0), longest, PART=1024, num_warps=8, enable_fp_fusion=True,
        )  # fmt: skip


_penalties = define(
    "penalties(Tensor(a!) logits, Tensor rows, Tensor tokens, Tensor firsts, Tensor prompts, Tensor lengths, "
    "Tensor repetition, Tensor presence, Tensor frequency) -> ()",
    check=check,
    fake=lambda *_: None,
    bodies={"reference": reference, "cpu": cpu, "triton": by_triton},
)
