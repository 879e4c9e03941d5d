"""The blocks of the KV cache: who holds them, what they hold, which are handed out next. It knows nothing of tensors.

A block is free or referenced. A free block may still hold keys and values that can be named (it has a digest): it waits
in the order of eviction, and whoever needs its contents first takes it back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Block:
    """One block of the cache. Only its BlockPool changes it."""

    index: int
    """Its place in the cache's tensors."""
    refs: int = 0
    """Block tables that name it."""
    digest: bytes | None = None
    """What it holds, once it is full and published."""


class BlockPool:
    """Hands out blocks, counts their references, and finds published ones by digest."""

    def __init__(self, num_blocks: int) -> None:
        self.blocks = tuple(Block(index) for index in range(num_blocks))
        # First in, first evicted. An OrderedDict drops a block from the middle or takes the first in constant time.
        self._free = OrderedDict((block.index, block) for block in self.blocks)
        self._published: dict[bytes, Block] = {}

    @property
    def num_free(self) -> int:
        """Blocks that nobody references."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """Share of the blocks that are referenced, from 0 to 1."""
        return 1 - len(self._free) / len(self.blocks)

    def take(self, count: int) -> list[Block]:
        """`count` blocks to write to, with one reference each; those that were freed first lose their contents."""
        assert count <= len(self._free), f"{count} blocks asked for, {len(self._free)} free"
        taken = [self._free.popitem(last=False)[1] for _ in range(count)]
        for block in taken:
            if block.digest is not None:
                del self._published[block.digest]
                block.digest = None
            block.refs = 1
        return taken

    def find(self, chain: Iterable[bytes]) -> list[Block]:
        """The published blocks named by `chain`, up to the first digest that nobody published."""
        found: list[Block] = []
        for digest in chain:
            block = self._published.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def fits(self, shared: Sequence[Block], fresh: int) -> bool:
        """Whether `fresh` blocks are left to take once `shared` ones (which may be free now) are referenced."""
        return fresh <= len(self._free) - sum(block.refs == 0 for block in shared)

    def share(self, blocks: Iterable[Block]) -> None:
        """Reference published blocks once more."""
        for block in blocks:
            if block.refs == 0:
                del self._free[block.index]
            block.refs += 1

    def publish(self, block: Block, digest: bytes) -> None:
        """Let a full block be found by its digest, unless another block with the same contents already is."""
        if self._published.setdefault(digest, block) is block:
            block.digest = digest

    def forget(self) -> None:
        """Let nothing be found that was published so far; who holds blocks keeps them."""
        for block in self._published.values():
            block.digest = None
        self._published.clear()

    def unpublish(self, blocks: Iterable[Block]) -> None:
        """Let these be found no more; who holds them keeps them."""
        for block in blocks:
            if block.digest is not None:
                del self._published[block.digest]
                block.digest = None

    def release(self, blocks: Sequence[Block]) -> None:
        """Give up one reference to each block of a table.

        The tail is evicted first: a prefix is of use without its tail, a tail without its prefix is not. What holds
        nothing that could be found is handed out before anything that does.
        """
        for block in reversed(blocks):
            block.refs -= 1
            if block.refs == 0:
                self._free[block.index] = block
                if block.digest is None:
                    self._free.move_to_end(block.index, last=False)
