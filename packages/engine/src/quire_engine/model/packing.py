"""Puts a loaded model's products into the CPU library's layout, as they are or rounded to integers. It knows nn.Linear.

Packed products read memory from end to end on large pages, which torch's do not; and integers are fewer bytes to read.
What rounding does to a model is measured, not promised: `effect` compares logits of the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from quire_engine.errors import ConfigError
from quire_kernels import PackedLinear, linear, pack_linear
from quire_kernels.linear import FLOAT_KINDS, unpack


class PackedProduct(nn.Module):
    """An nn.Linear with a packed weight. It has no `weight`: code that wants to read one fails at once."""

    def __init__(self, product: nn.Linear, *, kind: str | None, invariant: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = product.in_features, product.out_features
        self.packed = pack_linear(product.weight.detach(), product.bias, kind=kind)
        self.invariant = invariant
        self.dtype = product.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]"""
        rows = linear(x.reshape(-1, self.in_features), self.packed, invariant=self.invariant)
        return rows.view(*x.shape[:-1], self.out_features)

    def unpacked(self) -> nn.Linear:
        """What it was made of, to the last bit if its kind is one of floats."""
        bias = self.packed.bias
        product = nn.Linear(self.in_features, self.out_features, bias=bias is not None, device="meta")
        product.weight = nn.Parameter(unpack(self.packed).to(self.dtype), requires_grad=False)
        if bias is not None:
            product.bias = nn.Parameter(bias[: self.out_features].to(self.dtype), requires_grad=False)
        return product


def pack_products(
    model: nn.Module, *, kind: str | None = None, head: nn.Module | None = None, invariant: bool = False
) -> tuple[PackedLinear, ...]:
    """Replace every nn.Linear of a model on the CPU; `kind` is "int8" or "int4" to round, None to keep every bit.

    The `head` is int8 where others are int4: every logit is an answer. A product is let go of as soon as it is packed,
    so that the weights are never there twice. ConfigError where there is nothing to round.
    """
    packed: dict[int, PackedProduct] = {}  # by the product's identity: one that has two names stays one
    for parent, name in list(_names(model)):
        product = parent._modules[name]
        if type(product) is not nn.Linear or product.weight.dtype not in FLOAT_KINDS.values():
            continue
        if id(product) not in packed:
            own = "int8" if product is head and kind == "int4" else kind
            packed[id(product)] = PackedProduct(product, kind=own, invariant=invariant)
        setattr(parent, name, packed[id(product)])
    if kind is not None and not packed:
        raise ConfigError(
            f"quantization is {kind}, but the model has no linear layers that could be rounded; leave it out"
        )
    return tuple(each.packed for each in packed.values())


def unpack_products(model: nn.Module) -> None:
    """Undo `pack_products`, for a model whose code wants the weights themselves."""
    plain: dict[int, nn.Linear] = {}
    for parent, name in list(_names(model)):
        product = parent._modules[name]
        if isinstance(product, PackedProduct):
            if id(product) not in plain:
                plain[id(product)] = product.unpacked()
            setattr(parent, name, plain[id(product)])


def _names(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every place of a module: its parent and its name there, under each of its names."""
    for parent in model.modules():
        yield from ((parent, name) for name, child in parent._modules.items() if child is not None)


def effect(rounded: Tensor, exact: Tensor) -> tuple[float, float]:
    """How far logits [R, V] are from others: the median row's relative distance, and the share of equal best tokens."""
    distances = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1)
    agreement = (rounded.argmax(-1) == exact.argmax(-1)).float().mean()
    return float(distances.median()), float(agreement)
