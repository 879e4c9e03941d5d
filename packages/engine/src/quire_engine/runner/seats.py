"""Where each running sequence sits: one row of the host-side block tables. It knows no tensors and no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quire_engine.kv.pool import Block
from quire_engine.scheduling.batch import Span
from quire_engine.sequence import Sequence


@dataclass(slots=True)
class Seat:
    """One row, and how much of its sequence's block list is already written there."""

    row: int
    blocks: list[Block]
    """The very list the row was written from: another list means the sequence was preempted in between."""
    written: int = 0


class Seats:
    """Rows for sequences, given on first sight and taken back when a sequence no longer runs.

    A row is extended by the blocks that are new, never rebuilt, so that a decode step costs next to nothing per
    sequence. Owned by the packer, nobody else changes it.
    """

    def __init__(self, count: int, max_blocks: int) -> None:
        self.tables: NDArray[np.int32] = np.zeros((count, max_blocks), dtype=np.int32)  # [seats, blocks]
        self._seats: dict[Sequence, Seat] = {}
        self._free = list(range(count - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._seats)

    def rows(self, spans: tuple[Span, ...]) -> list[int]:
        """The row of each span's sequence, with all its blocks written."""
        self._reclaim()
        return [self._row(span.sequence) for span in spans]

    def _row(self, sequence: Sequence) -> int:
        blocks = sequence.blocks
        seat = self._seats.get(sequence)
        if seat is None:
            seat = self._seats[sequence] = Seat(self._free.pop(), blocks)
        elif seat.blocks is not blocks:
            seat.blocks, seat.written = blocks, 0
        if seat.written != len(blocks):
            self.tables[seat.row, seat.written : len(blocks)] = [block.index for block in blocks[seat.written :]]
            seat.written = len(blocks)
        return seat.row

    def _reclaim(self) -> None:
        """Take back the rows of sequences that no longer run."""
        for sequence in [sequence for sequence in self._seats if not sequence.is_running]:
            self._free.append(self._seats.pop(sequence).row)
