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
    """All rows at once; a token that occurs many times is written many times, each time with the same number."""
    if not tokens.numel():
        return
    rows, firsts, prompts, lengths = rows[:, None], firsts[:, None], prompts[:, None], lengths[:, None]  # [n, 1]
    last = tokens.shape[1] - 1
    place = torch.arange(last + 1)  # [L]

    # Columns that hold none of a row's tokens repeat its first one, so that nothing else is written; and a row without
    # any writes back what was there.
    if (repetition != 1).any():
        seen = torch.where((place >= firsts) & (place < lengths), tokens, tokens.gather(1, firsts.clamp(max=last)))
        factor = torch.where(lengths > firsts, repetition[:, None], 1.0)
        scores = logits[rows, seen]
        logits.index_put_((rows, seen), torch.where(scores > 0, scores / factor, scores * factor))

    # Likewise with the first output token; where there is none yet, nothing is taken off.
    if presence.any() or frequency.any():
        is_output = (place >= prompts) & (place < lengths)
        output = torch.where(is_output, tokens, tokens.gather(1, prompts.clamp(max=last)))
        once = torch.where(lengths > prompts, presence[:, None], 0.0)
        logits.index_put_((rows, output), logits[rows, output] - once)
        logits.index_put_((rows, output), torch.where(is_output, -frequency[:, None], 0.0), accumulate=True)


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
