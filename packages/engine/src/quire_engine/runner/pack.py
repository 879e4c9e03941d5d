"""From a batch of spans to the tensors of one pass, in one host buffer and one copy. It knows no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quire_engine.attention.base import Layout
from quire_engine.model.embeds import GivenRows
from quire_engine.runner.seats import Seats
from quire_engine.scheduling.batch import Batch, Span

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The tensors of one pass. T rows (tokens) of S spans lie one after the other. Nobody changes it."""

    spans: tuple[Span, ...]
    """S spans, in the order of their rows."""
    ids: Tensor
    """[T] int64: token ids."""
    positions: Tensor
    """[T] int64: each token's place in its own sequence."""
    layout: Layout
    """Slots, starts, lengths and tables: what attention needs."""
    sampling: tuple[int, ...]
    """Numbers of the R spans that sample."""
    sampled_rows: Tensor
    """[R] int64: their last rows, whose logits are drawn from."""
    last_rows: Ints
    """[S] on the host: each span's last row."""
    stops: Ints
    """[S] on the host: one past each span's last position."""
    given: GivenRows | None = None
    """Rows that are embeddings already; their ids mean nothing."""

    @property
    def rows(self) -> int:
        """T."""
        return self.ids.shape[0]


class Packer:
    """Packs batches for one device. Owns the seats."""

    def __init__(self, *, seats: int, max_model_len: int, block_size: int, device: torch.device) -> None:
        self.seats = Seats(seats + 1, -(-max_model_len // block_size))  # one for a probe when all others are taken
        self.block_size = block_size
        self._device = device

    def pack(self, batch: Batch) -> PackedBatch:
        """Lay out the spans' rows and send them to the device."""
        spans = batch.spans
        tables = self.seats.tables
        rows = np.array(self.seats.rows(spans), dtype=np.int64)  # [S]
        first = np.array([span.start for span in spans], dtype=np.int64)  # [S] positions
        counts = np.array([span.length for span in spans], dtype=np.int64)  # [S]
        lengths = first + counts  # [S]
        starts = np.zeros(len(spans) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        total, longest = int(starts[-1]), int(lengths.max())
        width = -(-longest // self.block_size)

        sampling = tuple(number for number, span in enumerate(spans) if span.samples)
        host = Buffer(total, len(spans), width, len(sampling), pinned=self._device.type == "cuda")
        host.ids[:] = tokens_of(spans)
        owner = np.repeat(np.arange(len(spans)), counts)  # [T] the span of each row
        np.subtract(np.arange(total), (starts[:-1] - first)[owner], out=host.positions)
        blocks, offsets = np.divmod(host.positions, self.block_size)
        np.add(tables[rows[owner], blocks].astype(np.int64) * self.block_size, offsets, out=host.slots)
        host.sampled_rows[:] = starts[1:][list(sampling)] - 1
        host.starts[:], host.lengths[:] = starts, lengths
        host.tables[:] = tables[rows, :width]

        device = host.send(self._device)
        layout = Layout(
            slots=device.slots,
            starts=device.starts,
            lengths=device.lengths,
            tables=device.tables,
            longest_span=int(counts.max()),
            longest_context=longest,
        )
        return PackedBatch(
            spans,
            device.ids,
            device.positions,
            layout,
            sampling=sampling,
            sampled_rows=device.sampled_rows,
            last_rows=starts[1:] - 1,
            stops=lengths,
            given=given_rows(spans, starts, self._device),
        )


def tokens_of(spans: tuple[Span, ...]) -> list[int]:
    """The ids of all rows, one span after the other; 0 where the token is not known yet."""
    ids: list[int] = []
    for span in spans:
        if span.ahead:
            ids.append(0)
        elif span.length == 1:
            ids.append(span.sequence.tokens[span.start])
        else:
            ids += span.sequence.tokens[span.start : span.stop]
    return ids


def given_rows(spans: tuple[Span, ...], starts: Ints, device: torch.device) -> GivenRows | None:
    """The rows of a batch whose embeddings came with their requests; None if there are none."""
    places, values = [], []
    for first, span in zip(starts.tolist(), spans, strict=False):
        sequence = span.sequence
        stop = min(span.stop, sequence.prompt_length)
        if sequence.embeds and span.start < stop:
            rows = np.frombuffer(sequence.embeds, dtype="<f4").reshape(sequence.prompt_length, -1)
            places.append(np.arange(first, first + stop - span.start))
            values.append(rows[span.start : stop])
    if not places:
        return None
    at, rows = np.concatenate(places), np.concatenate(values)  # copies: torch takes no read-only memory
    return GivenRows(torch.from_numpy(at).to(device), torch.from_numpy(rows).to(device))


@dataclass(frozen=True, slots=True)
class Fields:
    """The buffer's tensors on the device."""

    ids: Tensor
    positions: Tensor
    slots: Tensor
    sampled_rows: Tensor
    starts: Tensor
    lengths: Tensor
    tables: Tensor


class Buffer:
    """One stretch of host memory with every field of a pass in it, so that one copy sends them all.

    It is new for every pass: the copy to a CUDA device is asynchronous, and torch's pinned-memory pool keeps a buffer
    from being handed out again until its copy is done.
    """

    def __init__(self, rows: int, spans: int, width: int, sampling: int, *, pinned: bool) -> None:
        longs, ints = 3 * rows + sampling, 2 * spans + 1 + spans * width
        self._shape = (rows, spans, width, sampling)
        self._bytes = torch.empty(8 * longs + 4 * ints, dtype=torch.uint8, pin_memory=pinned)
        fields = self._split(self._bytes)
        self.ids: Ints = fields.ids.numpy()
        self.positions: Ints = fields.positions.numpy()
        self.slots: Ints = fields.slots.numpy()
        self.sampled_rows: Ints = fields.sampled_rows.numpy()
        self.starts: NDArray[np.int32] = fields.starts.numpy()
        self.lengths: NDArray[np.int32] = fields.lengths.numpy()
        self.tables: NDArray[np.int32] = fields.tables.numpy()

    def send(self, device: torch.device) -> Fields:
        """The same fields on `device`; on a CPU the same memory."""
        return self._split(self._bytes.to(device, non_blocking=True))

    def _split(self, raw: Tensor) -> Fields:
        rows, spans, width, sampling = self._shape
        end = 8 * (3 * rows + sampling)  # bytes
        ids, positions, slots, sampled_rows = torch.split(raw[:end].view(torch.int64), [rows, rows, rows, sampling])
        starts, lengths, tables = torch.split(raw[end:].view(torch.int32), [spans + 1, spans, spans * width])
        return Fields(ids, positions, slots, sampled_rows, starts, lengths, tables.view(spans, width))
