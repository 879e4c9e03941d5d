"""What must be true of a scheduler between any two of its calls."""

from __future__ import annotations

from collections import Counter

from quire_engine.scheduling.scheduler import Scheduler


def check_invariants(scheduler: Scheduler) -> None:
    """Every block is free xor referenced, references are the tables that name it, no sequence stands in two lines."""
    pool = scheduler.pool
    references = Counter(block.index for sequence in scheduler.running for block in sequence.blocks)
    free = set(pool._free)
    for block in pool.blocks:
        assert block.refs == references[block.index]
        assert (block.index in free) == (block.refs == 0)
        assert block.digest is None or pool._published[block.digest] is block
    assert all(block.digest == digest for digest, block in pool._published.items())
    assert pool.num_free + len(references) == len(pool.blocks)

    running, waiting = list(scheduler.running), list(scheduler.waiting)
    siblings = [sequence for line in scheduler.siblings.values() for sequence in line]
    everyone = running + waiting + siblings
    assert len({id(sequence) for sequence in everyone}) == len(everyone)
    known = {id(sequence) for choices in scheduler.requests.values() for sequence in choices.values()}
    assert known == {id(sequence) for sequence in everyone}
    assert all(sequence.is_running for sequence in running)
    assert len(running) <= scheduler.max_running
    for sequence in waiting + siblings:
        assert not sequence.is_running
        assert not sequence.blocks
        assert sequence.computed == 0
    for sequence in running:
        assert len(set(map(id, sequence.blocks))) == len(sequence.blocks)
        assert sequence.computed < len(sequence.tokens) <= scheduler.max_length
        assert len(sequence.blocks) * scheduler.block_size >= sequence.computed
    for line in (running, waiting):
        order = [(scheduler.rank(sequence), sequence.arrival) for sequence in line]
        assert order == sorted(order)
