from __future__ import annotations

import pytest
import torch

from quire_engine.sampling.largest import largest


@pytest.mark.parametrize("size", [100, 4096, 12_800, 12_801])
@pytest.mark.parametrize("count", [1, 5, 64, 100])
def test_the_largest_are_those_of_a_sort(size: int, count: int) -> None:
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(size + count))
    values, places = largest(rows, count)
    wanted = rows.sort(descending=True)
    assert values.tolist() == wanted.values[:, :count].tolist()
    assert places.tolist() == wanted.indices[:, :count].tolist()


def test_excluded_tokens_come_last() -> None:
    rows = torch.full((1, 12_800), float("-inf"))
    rows[0, 77] = 1.0
    values, places = largest(rows, 3)
    assert values.tolist() == [[1.0, float("-inf"), float("-inf")]]
    assert places[0, 0] == 77
