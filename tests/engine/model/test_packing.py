"""Products of a model in the CPU library's layout: the same function, fewer bytes where they are rounded."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from quire_engine.errors import ConfigError
from quire_engine.model.packing import PackedProduct, effect, pack_products, unpack_products


class Block(nn.Module):
    """Two products, one of them under two names, and something that is none."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 48, dtype=dtype)
        self.up = nn.Linear(48, 100, dtype=dtype)
        self.again = self.up
        self.inner = nn.ModuleDict({"down": nn.Linear(100, 48, bias=False, dtype=dtype)})

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.inner["down"](self.up(self.table(ids)).relu())
        return out


IDS = torch.arange(10)[None]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.inference_mode()
def test_a_packed_model_computes_the_same(dtype: torch.dtype) -> None:
    block = Block(dtype)
    wanted = block(IDS)
    products = pack_products(block)
    assert [product.numbers for product in products] == [48 * 100, 48 * 100]
    assert block.again is block.up
    out = block(IDS)
    assert (out.shape, out.dtype) == (wanted.shape, dtype)
    tolerance = 4 * torch.finfo(dtype).eps
    assert (out - wanted).norm() <= tolerance * wanted.norm() + tolerance


@pytest.mark.parametrize("change", [pack_products, unpack_products])
def test_each_product_is_gone_before_the_next_one_is_made(change: Callable[[nn.Module], object]) -> None:
    block = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    if change is unpack_products:
        pack_products(block)
    kind, changed = type(block[0]), []

    def count() -> None:
        changed.append(sum(type(product) is not kind for product in block))

    for product in block:
        weakref.finalize(product, count)
    del product
    change(block)
    assert changed == [1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "share", "loss"), [("int8", 0.5, 0.02), ("int4", 0.4, 0.2)])
@torch.inference_mode()
def test_rounding_saves_bytes_and_costs_what_is_measured(kind: str, share: float, loss: float) -> None:
    block = Block()
    wanted = block(IDS)[0]
    plain = sum(product.weight.nbytes for product in (block.up, block.inner["down"]))
    products = pack_products(block, kind=kind)
    assert sum(product.nbytes for product in products) < plain * share
    distance, agreement = effect(block(IDS)[0], wanted)
    assert 0 < distance < loss
    assert agreement > 0.5


@torch.inference_mode()
def test_packing_is_undone_without_a_trace() -> None:
    block = Block(torch.bfloat16)
    before = {name: weight.clone() for name, weight in block.state_dict().items()}
    pack_products(block)
    unpack_products(block)
    after = block.state_dict()
    assert type(block.up) is nn.Linear
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_packed_product_lends_no_weight() -> None:
    block = Block()
    pack_products(block)
    assert isinstance(block.up, PackedProduct)
    with pytest.raises(AttributeError, match="weight"):
        _ = block.up.weight


def test_the_head_keeps_more_than_four_bits() -> None:
    block = Block()
    assert [product.kind for product in pack_products(block, kind="int4", head=block.up)] == ["int8", "int4"]


def test_a_model_with_nothing_to_round_is_refused() -> None:
    with pytest.raises(ConfigError, match="quantization is int8, but the model has no linear layers"):
        pack_products(nn.Embedding(3, 4), kind="int8")


def test_the_effect_is_a_distance_and_a_share_of_equal_choices() -> None:
    exact = torch.tensor([[3.0, 4.0], [0.0, 1.0], [5.0, 0.0]])
    rounded = torch.tensor([[4.0, 3.0], [0.0, 1.1], [5.0, 0.0]])
    distance, agreement = effect(rounded, exact)
    assert distance == pytest.approx(0.1)
    assert agreement == pytest.approx(2 / 3)
