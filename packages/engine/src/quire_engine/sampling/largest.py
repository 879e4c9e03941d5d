"""The largest numbers of long rows, found without sorting the rows."""

from __future__ import annotations

from torch import Tensor

BLOCK = 128
"""Numbers compared by their maximum first; divides the common sizes of vocabularies."""


def largest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row [n, V], descending, and where they are: ([n, count], [n, count]).

    They lie in the `count` blocks with the largest maxima, so only those are searched. Where that would be most of a
    row, or a row does not divide into blocks, the whole row is.
    """
    n, size = rows.shape
    if size % BLOCK or 2 * count * BLOCK >= size:
        values, places = rows.topk(count)
        return values, places
    blocks = rows.view(n, size // BLOCK, BLOCK)
    chosen = blocks.amax(-1).topk(count, sorted=False).indices  # [n, count]
    candidates = blocks.gather(1, chosen[:, :, None].expand(n, count, BLOCK)).view(n, count * BLOCK)
    values, at = candidates.topk(count)
    return values, chosen.gather(1, at // BLOCK) * BLOCK + at % BLOCK
