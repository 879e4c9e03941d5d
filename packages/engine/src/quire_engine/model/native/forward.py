"""The decoder behind the seam that runners call. It knows how a pass is laid out, no sequences and no checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from quire_engine.attention.paged import PagedBackend
from quire_engine.kv.cache import KVCache
from quire_engine.model.embeds import GivenRows
from quire_engine.model.seam import Pass
from quire_kernels.decoder import Cache, Decoder


class NativeForward:
    """A whole step in one call of the CPU library. Logits are float32.

    Its attention is quire_kernels' own, so that the pass must be planned by PagedBackend.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._seen: tuple[KVCache, Cache] | None = None  # the last cache, and how the library finds it

    def logits(
        self, ids: Tensor, positions: Tensor, rows: Tensor, quire: Pass, given: GivenRows | None = None
    ) -> Tensor:
        """[R, V]: as in Forward."""
        backend = quire.attention
        assert isinstance(backend, PagedBackend), "the decoder brings its own attention, which is this backend's"
        layout = backend.layout
        return self._decoder.step(
            ids,
            positions,
            quire.slots,
            layout.starts,
            layout.lengths,
            layout.tables,
            self._place(quire.cache),
            rows,
            longest=layout.longest_context,
            given=None if given is None else (given.rows, given.values),
        )

    def logits_in_parts(
        self, ids: Tensor, positions: Tensor, parts: list[Tensor], quire: Pass, given: GivenRows | None = None
    ) -> Iterator[Tensor]:
        """As in Forward: the decoder keeps the last step's rows until the next one."""
        first, *others = parts
        yield self.logits(ids, positions, first, quire, given)
        yield from map(self._decoder.logits, others)

    def _place(self, cache: KVCache) -> Cache:
        if self._seen is None or self._seen[0] is not cache:
            self._seen = cache, Cache.of(cache.keys, cache.values)
        return self._seen[1]
