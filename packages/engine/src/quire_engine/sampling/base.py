"""What a logits transform is given and what it may do. It knows rows of logits, no model and no device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire_engine.sequence import Sequence
from quire_engine.transit import sent
from quire_protocol import SamplingParams


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a batch's logits that asked for one transform, and whose rows they are."""

    sequences: tuple[Sequence, ...]
    numbers: NDArray[np.int64]
    """[n] row of each sequence in the logits."""
    index: Tensor
    """The same on the device."""
    total: int
    """Rows of the logits."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self.index.device

    @property
    def are_all(self) -> bool:
        """Whether every row of the logits asked."""
        return len(self.sequences) == self.total

    def pairs(self, ids: Callable[[SamplingParams], Iterable[int]]) -> tuple[Tensor, Tensor]:
        """([m], [m]): row and token id of every token that each sequence's parameters name."""
        named = [list(ids(sequence.params)) for sequence in self.sequences]
        rows = np.repeat(self.numbers, [len(tokens) for tokens in named])
        tokens = np.fromiter((token for tokens in named for token in tokens), dtype=np.int64, count=len(rows))
        return torch.from_numpy(rows).to(self.device), torch.from_numpy(tokens).to(self.device)


@dataclass(frozen=True, slots=True)
class Step:
    """What is new in this step, for transforms that follow a sequence as it grows."""

    lengths: NDArray[np.int64]
    """[R] tokens of each row's sequence so far: the position of the token about to be drawn."""
    last_ids: Tensor
    """[R] the last of those tokens, on the device."""
    failures: dict[int, Exception] = field(default_factory=dict)
    """By row: why no token can be drawn there. Whoever transforms the logits puts in what went wrong."""


class LogitsTransform(Protocol):
    """One way to change logits before the draw. An object serves one set of rows for as long as that set stays."""

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether these parameters ask for it at all: rows that do not cost nothing."""
        ...

    def __init__(self, rows: Rows) -> None:
        """Take from the parameters of `rows` what is needed, to the device."""
        ...

    def apply(self, logits: Tensor, step: Step) -> None:
        """Change the logits [R, V] float32 of its own rows in place."""
        ...


class History:
    """The tokens of some rows' sequences on the device, as a table that grows by what is new in a step."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._table = torch.empty(0)
        self._lengths = np.zeros(0, dtype=np.int64)

    def follow(self, step: Step) -> tuple[Tensor, Tensor]:
        """Catch up with the sequences: ([n, L] tokens, 0 where a row is shorter; [n, 1] lengths)."""
        lengths = step.lengths[self._rows.numbers]
        if not np.array_equal(lengths, self._lengths):
            if self._has_room(lengths):
                self._add(lengths)
            else:
                self._table = self._write(lengths)
            at = sent(lengths - 1, self._rows.device)[:, None]
            self._table.scatter_(1, at, step.last_ids[self._rows.index][:, None])
        self._lengths = lengths
        return self._table[:, : int(lengths.max())], sent(lengths, self._rows.device)[:, None]

    def _has_room(self, lengths: NDArray[np.int64]) -> bool:
        """Whether rows of these lengths go on from those in the table, and fit it."""
        goes_on = len(lengths) == len(self._lengths) and bool((lengths >= self._lengths).all())
        return goes_on and int(lengths.max()) <= self._table.shape[1]

    def _add(self, lengths: NDArray[np.int64]) -> None:
        """Of rows that have several new tokens, as where some had to come, all but the last."""
        several = np.flatnonzero(lengths - self._lengths > 1)
        for row, begin, end in zip(several, self._lengths[several], lengths[several] - 1, strict=True):
            new = np.array(self._rows.sequences[row].tokens[begin:end], dtype=np.int64)
            self._table[row, begin:end] = sent(new, self._rows.device)

    def _write(self, lengths: NDArray[np.int64]) -> Tensor:
        """The whole table, with room to grow; the last tokens may not have reached the host yet."""
        table = np.zeros((len(lengths), int(lengths.max()) * 5 // 4 + 64), dtype=np.int64)
        for row, sequence, length in zip(table, self._rows.sequences, lengths, strict=True):
            row[: length - 1] = sequence.tokens[: length - 1]
        return sent(table, self._rows.device)
