"""Routed experts: grouped products over sorted rows, without a look at the device. It knows names, no family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from quire_engine.model.fusion.gated_mlp import ACTIVATIONS
from quire_engine.model.fusion.passes import FusionPass, Replacement, Visit
from quire_kernels import experts


class Experts(Replacement):
    """Each row through the experts that its router chose: the weighted sum of gated MLPs."""

    gate_up_proj: nn.Parameter
    down_proj: nn.Parameter

    def __init__(self, original: nn.Module, activation: str, *, invariant: bool) -> None:
        super().__init__(original)
        self.gate_up_proj = original.gate_up_proj  # type: ignore[assignment]  # [E, 2 I, H]
        self.down_proj = original.down_proj  # type: ignore[assignment]  # [E, H, I]
        self.activation = activation
        self.invariant = invariant

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """[T, H], expert numbers [T, k] and their weights [T, k] -> [T, H]"""
        return experts(
            hidden_states,
            self.gate_up_proj,
            self.down_proj,
            top_k_index,
            top_k_weights,
            activation=self.activation,
            invariant=self.invariant,
        )


def looks_routed(module: nn.Module) -> bool:
    """The weights of all experts in two tensors, gate and up first, each row of a weight one output."""
    parameters = dict(module.named_parameters())
    if {*parameters} != {"gate_up_proj", "down_proj"}:
        return False
    gate_up, down = parameters["gate_up_proj"].shape, parameters["down_proj"].shape
    return len(gate_up) == len(down) == 3 and gate_up[0] == down[0] and gate_up[1:] == (2 * down[2], down[1])


def candidates(module: nn.Module, visit: Visit, *, invariant: bool = False) -> Iterator[Experts]:
    """With each activation."""
    yield from (Experts(module, activation, invariant=invariant) for activation in ACTIVATIONS)


EXPERTS = FusionPass("routed experts", looks_routed, candidates, volumes=(1.0, 32.0), pays_on_cpu=True)

INVARIANT_EXPERTS = replace(EXPERTS, candidates=partial(candidates, invariant=True))
"""The same, where a row's company must not change a bit of its answer; what is left is refused there."""
