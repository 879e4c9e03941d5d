"""RMS norms: one call instead of six element-wise ones. It knows attribute names, no family."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from quire_engine.model.fusion.passes import FusionPass, Replacement, Visit
from quire_kernels import rms_norm

EPSILONS = ("variance_epsilon", "eps", "norm_eps", "epsilon")
"""Names under which modules keep what they add to the mean square."""
OFFSETS = (0.0, 1.0)
"""What is added to the weight: nothing, or one (Gemma)."""


class RMSNorm(Replacement):
    """`x / rms(x) * (offset + weight)` over the last dimension, computed in float32 and rounded once."""

    weight: nn.Parameter

    def __init__(self, original: nn.Module, eps: float, offset: float) -> None:
        super().__init__(original)
        self.weight = original.weight  # type: ignore[assignment]
        self.eps = eps
        self.offset = offset

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., H] -> [..., H]"""
        rows = hidden_states.reshape(-1, hidden_states.shape[-1])
        return rms_norm(rows, self.weight, eps=self.eps, offset=self.offset).view(hidden_states.shape)


def looks_like_a_norm(module: nn.Module) -> bool:
    """One weight vector, an epsilon, and nothing else."""
    parameters = dict(module.named_parameters())
    return [*parameters] == ["weight"] and parameters["weight"].ndim == 1 and _epsilon(module) is not None


def candidates(module: nn.Module, visit: Visit | None = None) -> Iterator[RMSNorm]:
    """With either offset."""
    eps = _epsilon(module)
    if eps is not None:
        yield from (RMSNorm(module, eps, offset) for offset in OFFSETS)


def _epsilon(module: nn.Module) -> float | None:
    """What a norm adds to the mean square, if it says so."""
    return next((eps for name in EPSILONS if isinstance(eps := getattr(module, name, None), float)), None)


# Quiet enough for the epsilon to weigh as much as the mean square of a normalised row.
NORMS = FusionPass("norms", looks_like_a_norm, candidates, volumes=(1.0, 1e-3), pays_on_cpu=True)
