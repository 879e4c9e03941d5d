"""What must be true of a scheduler between any two of its calls."""

from __future__ import annotations

from collections import Counter

from quire_engine.scheduling.scheduler import Scheduler
from quire_engine.sequence import Sequence


def check_invariants(scheduler: Scheduler) -> None:
    """Every block is free xor referenced, references are the tables that name it (and copies that wait for it), no
    sequence stands in two lines."""
    pool = scheduler.pool
    references = Counter(block.index for sequence in scheduler.running for block in sequence.blocks)
    references.update(copy.source for copy in scheduler.copies.values())
    free = set(pool._free)
    for block in pool.blocks:
        assert block.refs == references[block.index]
        assert (block.index in free) == (block.refs == 0)
        assert block.digest is None or pool._published[block.digest] is block
    assert all(block.digest == digest for digest, block in pool._published.items())
    assert pool.num_free + len(references) == len(pool.blocks)

    settled = {sequence for search in scheduler.searches.values() for sequence in search._settled}
    running, waiting = list(scheduler.running), list(scheduler.waiting)
    siblings = [sequence for line in scheduler.siblings.values() for sequence in line]
    idle = [sequence for sequence in in_searches(scheduler) if not sequence.is_running and sequence not in waiting]
    everyone = running + waiting + siblings + idle
    assert len({id(sequence) for sequence in everyone}) == len(everyone)
    known = {id(sequence) for choices in scheduler.requests.values() for sequence in choices.values()}
    assert known == {id(sequence) for sequence in everyone}
    assert all(sequence.is_running for sequence in running)
    assert len(running) <= scheduler.max_running
    for sequence in waiting + siblings + idle:
        assert not sequence.is_running
        assert not sequence.blocks
        assert sequence.computed == 0
    for sequence in running:
        assert len(set(map(id, sequence.blocks))) == len(sequence.blocks)
        is_settled = sequence in settled
        assert sequence.computed + (not is_settled) <= len(sequence.tokens) <= scheduler.max_length
        assert len(sequence.blocks) * scheduler.block_size >= sequence.computed
    for search in scheduler.searches.values():
        assert search.live
        assert set(search._settled) < set(search.live) <= set(search.sequences)
        assert all(s in settled or s.is_running or s in scheduler.waiting for s in search.live)
        assert all(s in search.live or not s.is_running for s in search.sequences)
        for sequence, beam in zip(search.live, search.beams.live, strict=True):
            answer = [token.token_id for token in beam.answer()]
            assert sequence.tokens[sequence.prompt_length :] == answer
    copies = scheduler.copies.values()
    assert all(sequence.is_running for sequence in scheduler.copies)
    assert len({copy.target for copy in copies}) == len(copies)
    assert {copy.target for copy in copies}.isdisjoint(copy.source for copy in copies)
    for line in (running, waiting):
        assert [*map(scheduler.running._key, line)] == sorted(map(scheduler.running._key, line))


def in_searches(scheduler: Scheduler) -> list[Sequence]:
    """The sequences of all beam searches, those without a beam included."""
    return [sequence for search in scheduler.searches.values() for sequence in search.sequences]
