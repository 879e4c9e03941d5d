"""From samples to batches of token ids, sorted by length so that little is padding. Knows no model.

A row holds one sample, with padding behind it: what comes later is not seen by causal attention, so no mask is needed,
and attention costs what the sample's own length asks for. All batches of a step are a pure function of (seed, step),
so training that goes on where it stopped sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from tools.demo_model.corpus.sample import Sample
from tools.demo_model.corpus.tasks import training
from tools.demo_model.render import pieces
from tools.demo_model.schedule import Stage
from torch import Tensor

SILENT = -100
"""The label of what is not to be learned."""
TOGETHER = 4096
"""Tokens that are computed at once, padding included: what keeps two cores busy and stays near them."""
ENOUGH = 1024
"""Tokens from which on a batch is left rather than filled with longer samples,"""
STRETCH = 1.3
"""that is, with samples so much longer than its shortest."""


class Encoded(NamedTuple):
    """The tokens of one sample. A label is the token that is to follow, or SILENT."""

    task: str
    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of like length, one a row."""

    ids: Tensor
    """[rows, length] int64"""
    labels: Tensor
    """[rows, length] int64: the token that follows, or SILENT."""
    tasks: tuple[str, ...]
    """Of each row."""
    tokens: int
    """What is no padding."""

    @property
    def spoken(self) -> int:
        """Tokens to learn."""
        return int((self.labels != SILENT).sum())


def encode(sample: Sample, tokenizer: Tokenizer) -> Encoded:
    """The sample's tokens, each piece encoded by itself."""
    ids: list[int] = []
    learned: list[bool] = []
    for text, is_spoken in pieces(sample):
        own = tokenizer.encode(text, add_special_tokens=False).ids
        ids += own
        learned += [is_spoken] * len(own)
    following = zip(ids[1:], learned[1:], strict=True)
    labels = [token if is_spoken else SILENT for token, is_spoken in following]
    return Encoded(sample.task, ids[:-1], labels)


def step_batches(tokenizer: Tokenizer, seed: int, step: int, stage: Stage, pad: int) -> list[Batch]:
    """What one step learns from: training samples of about the stage's tokens in all, none longer than its longest."""
    drawn: list[Encoded] = []
    missing = stage.tokens
    for sample in training(seed, step, stage.lengths, stage.more):
        one = encode(sample, tokenizer)
        if len(one.ids) <= stage.longest:
            drawn.append(one)
            missing -= len(one.ids)
        if missing <= 0:
            break
    return by_length(drawn, pad)


def by_length(samples: Sequence[Encoded], pad: int) -> list[Batch]:
    """Batches of at most TOGETHER tokens, unless one sample alone is longer; smaller where more would be padding."""
    batches: list[Batch] = []
    rows: list[Encoded] = []
    for one in sorted(samples, key=lambda each: len(each.ids)):
        if rows and not _fits(rows, one):
            batches.append(stacked(rows, pad))
            rows = []
        rows.append(one)
    return [*batches, stacked(rows, pad)] if rows else batches


def _fits(rows: Sequence[Encoded], one: Encoded) -> bool:
    """Whether a sample, no shorter than these, goes with them."""
    size = (len(rows) + 1) * len(one.ids)
    is_stretched = len(one.ids) > STRETCH * len(rows[0].ids)
    return size <= TOGETHER and not (is_stretched and size > ENOUGH)


def stacked(rows: Sequence[Encoded], pad: int) -> Batch:
    """One batch of these rows."""
    length = max(len(one.ids) for one in rows)
    ids = torch.tensor([one.ids + [pad] * (length - len(one.ids)) for one in rows])
    labels = torch.tensor([one.labels + [SILENT] * (length - len(one.ids)) for one in rows])
    return Batch(ids, labels, tuple(one.task for one in rows), sum(len(one.ids) for one in rows))
