"""Fusion: modules of a loaded model replaced by faster ones of ours, each only where it is proven to compute the same.

To add a pass: write its file, and one line here. Passes run in this order, and later ones build on what earlier ones
installed: the attention block asks whether its per-head norms are `RMSNorm` by now, the residual pass likewise.
"""

from __future__ import annotations

from quire_engine.model.fusion.attention import ATTENTION_BLOCKS
from quire_engine.model.fusion.experts import EXPERTS, INVARIANT_EXPERTS
from quire_engine.model.fusion.gated_mlp import GATED_MLPS
from quire_engine.model.fusion.norms import NORMS
from quire_engine.model.fusion.passes import FusionPass
from quire_engine.model.fusion.prove import fuse
from quire_engine.model.fusion.residual import RESIDUAL_ADDS

PASSES: tuple[FusionPass, ...] = (NORMS, GATED_MLPS, EXPERTS, ATTENTION_BLOCKS, RESIDUAL_ADDS)

INVARIANT_PASSES = tuple(INVARIANT_EXPERTS if each is EXPERTS else each for each in PASSES)
"""The same for batch-invariant servers."""

__all__ = ["INVARIANT_PASSES", "PASSES", "FusionPass", "fuse"]
