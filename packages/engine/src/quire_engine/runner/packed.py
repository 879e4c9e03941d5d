"""At load, on a CPU: products into the CPU library's layout, and what that does to the logits. It knows no layouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from quire_engine.attention import Layout
from quire_engine.attention.paged import PagedBackend
from quire_engine.config import EngineConfig, Quantized
from quire_engine.errors import ConfigError, ModelNotSupported
from quire_engine.kv.cache import KVCache, LayerShape
from quire_engine.model.forward import Forward, ModelForward
from quire_engine.model.packing import effect, pack_products, unpack_products
from quire_engine.model.seam import Pass
from quire_kernels import PackedLinear
from quire_kernels.linear import is_native

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS = 64
"""Tokens, drawn at random, whose logits are compared."""
BLOCK = 16

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest distance of logits, relative to their length, that summing in another order explains."""

NO_LIBRARY = (
    "quantization is {kind}, which is the CPU library's, and quire-kernels was installed without it (no C++ compiler, "
    "or not Linux on x86-64); install it anew with a compiler at hand, or leave quantization out"
)


def settle_quantization(kind: str | None, device: torch.device) -> None:
    """ConfigError where weights cannot be rounded."""
    if kind is None:
        return
    if device.type != "cpu":
        raise ConfigError(f"quantization is {kind}, which is the CPU's; leave it out, or ask for device 'cpu'")
    if not is_native():
        raise ConfigError(NO_LIBRARY.format(kind=kind))


def pack(
    model: PreTrainedModel, layers: tuple[LayerShape, ...], config: EngineConfig, *, architecture: str
) -> tuple[Quantized | None, str | None]:
    """Pack a model's products, rounded or as they are: what rounding did, and a note if they were left.

    Where products stay as they are, so must the logits; if not, or if the model's code wants the weights themselves,
    torch goes on multiplying. ModelNotSupported if that is so and rounding was asked for.
    """
    if not is_native() or (config.batch_invariant and config.quantization is None):
        return None, None  # batch-invariant products are made of torch's, in blocks of rows
    kind, forward, vocab = config.quantization, ModelForward(model), model.config.get_text_config().vocab_size
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    exact = probe(forward, layers, vocab=vocab, dtype=model.dtype)
    products = pack_products(model, kind=kind, head=head, invariant=config.batch_invariant)
    try:
        got = probe(forward, layers, vocab=vocab, dtype=model.dtype)
    except Exception as error:  # a model's own code may do anything with what it takes for an nn.Linear
        if kind is not None:
            raise ModelNotSupported(
                f"quantization is {kind}, but {architecture} reads the weights of its linear layers itself ({error}); "
                "leave it out"
            ) from error
        unpack_products(model)
        return None, f"products are torch's, not packed: {architecture} reads the weights itself ({error})"
    if kind is not None:
        return quantized(kind, products, got, exact), None
    distance, _ = effect(got, exact)
    if distance <= TOLERANCE[model.dtype]:
        return None, None
    unpack_products(model)
    return None, f"products are torch's, not packed: logits would differ by {distance:.2g} of their length"


def quantized(kind: str, products: Sequence[PackedLinear], got: Tensor, exact: Tensor) -> Quantized:
    """What rounding came to, by logits with it and without."""
    distance, agreement = effect(got, exact)
    return Quantized(
        kind=kind,
        products=len(products),
        weights=sum(each.numbers for each in products),
        nbytes=sum(each.nbytes for each in products),
        distance=distance,
        agreement=agreement,
    )


@torch.inference_mode()
def probe(forward: Forward, layers: tuple[LayerShape, ...], *, vocab: int, dtype: torch.dtype) -> Tensor:
    """[ROWS, V] float32: the logits of one pass over random tokens."""
    ids = torch.randint(vocab, (ROWS,), generator=torch.Generator().manual_seed(0))
    at = torch.arange(ROWS)
    layout = Layout(
        slots=at,
        starts=torch.tensor([0, ROWS], dtype=torch.int32),
        lengths=torch.tensor([ROWS], dtype=torch.int32),
        tables=torch.arange(ROWS // BLOCK, dtype=torch.int32)[None],
        longest_span=ROWS,
        longest_context=ROWS,
    )
    cache = KVCache.allocate(layers, ROWS // BLOCK, BLOCK, dtype, torch.device("cpu"))
    return forward.logits(ids, at, at, Pass(cache, layout.slots, PagedBackend.plan(layout))).float()
