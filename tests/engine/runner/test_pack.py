from __future__ import annotations

import time

import pytest
import torch

from quire_engine.kv.pool import Block
from quire_engine.runner.pack import PackedBatch, Packer
from quire_engine.scheduling.batch import Batch, Span
from quire_engine.sequence import Sequence
from quire_protocol import SamplingParams

PARAMS = SamplingParams()


def sequence(tokens: list[int], blocks: list[int]) -> Sequence:
    own = Sequence(0, 0, tokens, len(tokens), PARAMS, seed=0, blocks=[Block(index) for index in blocks])
    own.is_running = True
    return own


def packer(seats: int = 4, block_size: int = 4) -> Packer:
    return Packer(seats=seats, max_model_len=64, block_size=block_size, device=torch.device("cpu"))


def tables(packed: PackedBatch) -> list[list[int]]:
    return packed.layout.tables.tolist()


def test_spans_of_any_length_lie_one_after_the_other() -> None:
    long = sequence(list(range(100, 110)), [7, 2, 5])
    short = sequence([50, 51, 52], [9])
    packed = packer().pack(Batch((Span(long, 3, 5), Span(short, 2, 1))))
    layout = packed.layout
    assert packed.ids.tolist() == [103, 104, 105, 106, 107, 52]
    assert packed.positions.tolist() == [3, 4, 5, 6, 7, 2]
    assert layout.slots.tolist() == [7 * 4 + 3, 2 * 4 + 0, 2 * 4 + 1, 2 * 4 + 2, 2 * 4 + 3, 9 * 4 + 2]
    assert layout.starts.tolist() == [0, 5, 6]
    assert layout.lengths.tolist() == [8, 3]
    assert tables(packed)[0] == [7, 2]
    assert tables(packed)[1][0] == 9
    assert (layout.longest_span, layout.longest_context) == (5, 8)
    assert packed.last_rows.tolist() == [4, 5]
    assert packed.stops.tolist() == [8, 3]


def test_a_table_grows_with_its_sequence() -> None:
    own, pack = sequence(list(range(9)), [3]), packer()
    pack.pack(Batch((Span(own, 0, 4),)))
    own.blocks += [Block(8), Block(1)]
    assert tables(pack.pack(Batch((Span(own, 4, 5),)))) == [[3, 8, 1]]


def test_a_sequence_that_was_preempted_in_between_has_only_its_new_blocks() -> None:
    own, pack = sequence(list(range(9)), [3, 4, 5]), packer()
    pack.pack(Batch((Span(own, 0, 9),)))
    own.blocks = [Block(6), Block(7), Block(8)]
    assert tables(pack.pack(Batch((Span(own, 0, 9),)))) == [[6, 7, 8]]


def test_seats_are_taken_back_when_a_sequence_no_longer_runs() -> None:
    pack = packer(seats=2)
    for turn in range(5):
        pair = [sequence([1, 2], [2 * turn]), sequence([3], [2 * turn + 1])]
        packed = pack.pack(Batch(tuple(Span(own, 0, len(own.tokens)) for own in pair)))
        assert tables(packed) == [[2 * turn], [2 * turn + 1]]
        assert len(pack.seats) == 2
        for own in pair:
            own.is_running = False


def test_packing_256_sequences_takes_well_under_a_millisecond() -> None:
    pack = packer(seats=256, block_size=16)
    sequences = [sequence(list(range(60)), [number, 300 + number, 600 + number, 900 + number]) for number in range(256)]
    batch = Batch(tuple(Span(own, 59, 1) for own in sequences))
    pack.pack(batch)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        pack.pack(batch)
        times.append(time.perf_counter() - began)
    assert min(times) < 1e-3


@pytest.mark.parametrize("length", [1, 2048])
def test_positions_and_slots_agree_for_any_length(length: int) -> None:
    own = sequence(list(range(length)), list(reversed(range(-(-length // 4)))))
    packed = Packer(seats=1, max_model_len=4096, block_size=4, device=torch.device("cpu")).pack(
        Batch((Span(own, 0, length),))
    )
    assert packed.positions.tolist() == list(range(length))
    assert len(set(packed.layout.slots.tolist())) == length
