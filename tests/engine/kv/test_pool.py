import pytest

from quire_engine.kv.pool import BlockPool


def test_a_taken_block_is_referenced_and_not_free() -> None:
    pool = BlockPool(3)
    (block,) = pool.take(1)
    assert (block.refs, pool.num_free) == (1, 2)


def test_usage_is_the_share_of_referenced_blocks() -> None:
    pool = BlockPool(4)
    pool.take(1)
    assert pool.usage == 0.25


def test_taking_more_than_is_free_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="3 blocks asked for, 2 free"):
        BlockPool(2).take(3)


def test_a_published_block_is_found_by_its_digest_while_it_is_used_and_after() -> None:
    pool = BlockPool(2)
    blocks = pool.take(1)
    pool.publish(blocks[0], b"a")
    assert pool.find([b"a"]) == blocks
    pool.release(blocks)
    assert pool.find([b"a"]) == blocks


def test_the_search_ends_at_the_first_digest_that_nobody_published() -> None:
    pool = BlockPool(3)
    first, _, third = blocks = pool.take(3)
    pool.publish(first, b"a")
    pool.publish(third, b"c")
    assert pool.find([b"a", b"b", b"c"]) == blocks[:1]


def test_a_shared_block_is_free_only_after_its_last_reference() -> None:
    pool = BlockPool(1)
    blocks = pool.take(1)
    pool.publish(blocks[0], b"a")
    pool.share(pool.find([b"a"]))
    pool.release(blocks)
    assert pool.num_free == 0
    pool.release(blocks)
    assert pool.num_free == 1


def test_sharing_a_free_block_takes_it_out_of_the_order_of_eviction() -> None:
    pool = BlockPool(2)
    blocks = pool.take(1)
    pool.publish(blocks[0], b"a")
    pool.release(blocks)
    pool.share(blocks)
    assert pool.num_free == 1
    assert pool.take(1) != blocks


def test_a_free_block_that_is_shared_is_not_left_to_take() -> None:
    pool = BlockPool(3)
    blocks = pool.take(1)
    pool.publish(blocks[0], b"a")
    pool.release(blocks)
    assert pool.fits(blocks, 2)
    assert not pool.fits(blocks, 3)


def test_a_block_in_use_that_is_shared_costs_nothing() -> None:
    pool = BlockPool(3)
    assert pool.fits(pool.take(1), 2)


def test_a_block_that_is_taken_again_is_found_no_more() -> None:
    pool = BlockPool(1)
    blocks = pool.take(1)
    pool.publish(blocks[0], b"a")
    pool.release(blocks)
    assert pool.take(1)[0].digest is None
    assert pool.find([b"a"]) == []


def test_tails_are_evicted_before_their_prefixes() -> None:
    pool = BlockPool(3)
    blocks = pool.take(3)
    for block, digest in zip(blocks, (b"a", b"b", b"c"), strict=True):
        pool.publish(block, digest)
    pool.release(blocks)
    pool.take(1)
    assert pool.find([b"a", b"b", b"c"]) == blocks[:2]


def test_what_was_freed_first_is_evicted_first() -> None:
    pool = BlockPool(2)
    old, new = pool.take(1), pool.take(1)
    pool.publish(old[0], b"old")
    pool.publish(new[0], b"new")
    pool.release(old)
    pool.release(new)
    pool.take(1)
    assert pool.find([b"old"]) == []
    assert pool.find([b"new"]) == new


def test_blocks_that_nobody_could_find_are_handed_out_first() -> None:
    pool = BlockPool(2)
    named, nameless = pool.take(1), pool.take(1)
    pool.publish(named[0], b"a")
    pool.release(named)
    pool.release(nameless)
    assert pool.take(1) == nameless


def test_of_two_blocks_with_equal_contents_the_first_is_published() -> None:
    pool = BlockPool(2)
    first, second = pool.take(2)
    pool.publish(first, b"a")
    pool.publish(second, b"a")
    assert pool.find([b"a"]) == [first]
    assert second.digest is None
