"""What a fusion pass is, and what the probe saw of a module. It knows no pass and no family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """How a module called attention, and with what."""

    layer: int
    """Whose keys and values it stored and read."""
    scale: float
    window: int
    softcap: float
    sinks: Tensor | None
    q: Tensor
    """[T, Hq, D]"""
    k: Tensor
    """[T, Hkv, D], as found in the cache after it was stored."""
    v: Tensor
    """[T, Hkv, Dv], likewise."""

    @property
    def options(self) -> tuple[int, float, int, float, int | None]:
        """What must be the same in a replacement, bit for bit; sinks by their place in memory."""
        sinks = None if self.sinks is None else self.sinks.data_ptr()
        return self.layer, self.scale, self.window, self.softcap, sinks


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a module in the probe."""

    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    calls: tuple[AttentionCall, ...]
    """The attention calls that it made."""


@dataclass(frozen=True, slots=True)
class FusionPass:
    """One kind of module that can be replaced."""

    name: str
    """In the plural, for the report."""
    matches: Callable[[nn.Module], bool]
    """Whether a module looks like one; it may still turn out to compute something else."""
    candidates: Callable[[nn.Module, Visit], Iterator[nn.Module]]
    """Replacements to be tried, the likeliest first; on equal modules, equally many in the same order."""
    volumes: tuple[float, ...]
    """Factors on the probe's hidden states: loud ones reach a clip that quiet ones do not, quiet ones an epsilon."""
    pays_on_cpu: bool
    """Whether it is not slower on a CPU that has the kernels' library, as measured by `benchmarks/fusion.py`; on CUDA,
    where every launch counts, all are fused."""


class Replacement(nn.Module):
    """A module in another one's place; what the model's code may read of it by name stays readable."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        readable = {name: value for name, value in vars(original).items() if not name.startswith("_")}
        readable.pop("forward", None)  # where somebody wrapped the original's, that is no setting of it
        self.__dict__.update(readable)


def stacked(*parts: nn.Linear) -> nn.Linear:
    """One linear layer whose output is that of its parts, one after the other.

    The parts' weights become views of it, so that nothing lies in memory twice and the parts go on working. ValueError
    where they cannot be one product.
    """
    if len({(part.in_features, part.weight.dtype, part.bias is None) for part in parts}) > 1:
        raise ValueError("the parts differ in width, dtype or bias")
    whole = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), bias=False, device="meta")
    whole.weight = _joined([part.weight for part in parts])
    if biases := [part.bias for part in parts if part.bias is not None]:
        whole.bias = _joined(biases)
    return whole


def _joined(parts: Seq[Tensor]) -> nn.Parameter:
    """The parts as one tensor, of which they become views; no copy if they are that already."""
    ends = [part.data_ptr() + part.numel() * part.element_size() for part in parts]
    if _share_storage(parts) and all(end == part.data_ptr() for end, part in zip(ends, parts[1:], strict=False)):
        rows = sum(part.shape[0] for part in parts)
        return nn.Parameter(parts[0].as_strided((rows, *parts[0].shape[1:]), parts[0].stride()), requires_grad=False)
    whole = torch.cat([part.detach() for part in parts])
    for part, view in zip(parts, torch.split(whole, [part.shape[0] for part in parts]), strict=True):
        part.data = view
    return nn.Parameter(whole, requires_grad=False)


def _share_storage(parts: Seq[Tensor]) -> bool:
    return len({part.untyped_storage().data_ptr() for part in parts}) == 1
