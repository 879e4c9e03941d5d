"""The cache's tensors: what is mended, and what is not."""

from __future__ import annotations

import pytest
import torch

from quire_engine.kv import cache
from quire_engine.kv.cache import KVCache, LayerShape


@pytest.mark.parametrize("together", [1, 2, 100])
def test_only_blocks_that_hold_what_is_no_number_are_mended(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(cache, "MENDED", together)
    held = KVCache.allocate((LayerShape(1, 2, 2),) * 2, 6, 4, torch.float32, torch.device("cpu"))
    for tensor in (*held.keys, *held.values):
        tensor.fill_(1)
    held.keys[0][1, 0] = torch.nan
    held.values[1][4, 3] = torch.inf
    held.values[1][5, 3] = torch.nan
    assert held.mend([0, 1, 3, 4]) == [1, 4]
    sums = [float(tensor[block].sum()) for block in (0, 1, 4) for tensor in held.keys]
    assert sums == [8, 8, 0, 0, 0, 0]
    assert held.values[1][5].isnan().any()  # which nobody asked about
