"""Gated MLPs: gate and up projection in one product, activation and product in one call. It knows names, no family."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from quire_engine.model.fusion.passes import FusionPass, Replacement, Visit, stacked
from quire_kernels import gated

ACTIVATIONS = ("silu", "gelu_tanh", "gelu")
"""Those of `quire_kernels.gated`, the usual one first."""


class GatedMLP(Replacement):
    """`down(activation(gate(x)) * up(x))`"""

    def __init__(self, original: nn.Module, gate_up: nn.Linear, down: nn.Linear, activation: str) -> None:
        super().__init__(original)
        self.gate_up_proj = gate_up
        self.down_proj = down
        self.activation = activation

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., H] -> [..., H]"""
        gate_up = self.gate_up_proj(hidden_states)
        inner = gated(gate_up.view(-1, gate_up.shape[-1]), activation=self.activation)
        out: Tensor = self.down_proj(inner)
        return out.view(hidden_states.shape)


def looks_gated(module: nn.Module) -> bool:
    """A gate, an up and a down projection, or the first two in one."""
    children = dict(module.named_children())
    linear = {name for name, child in children.items() if type(child) is nn.Linear}
    return {"gate_proj", "up_proj", "down_proj"} <= linear or {"gate_up_proj", "down_proj"} <= linear


def candidates(module: nn.Module, visit: Visit) -> Iterator[GatedMLP]:
    """With each activation."""
    children = {name: child for name, child in module.named_children() if isinstance(child, nn.Linear)}
    gate_up = children.get("gate_up_proj") or stacked(children["gate_proj"], children["up_proj"])
    yield from (GatedMLP(module, gate_up, children["down_proj"], activation) for activation in ACTIVATIONS)


GATED_MLPS = FusionPass("gated MLPs", looks_gated, candidates, volumes=(1.0, 32.0), pays_on_cpu=True)
