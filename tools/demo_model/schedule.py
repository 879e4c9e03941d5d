"""How training goes from its start (0) to its end (1): samples' lengths and the rate of learning. Knows no steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.demo_model.corpus.tasks import Length, Lengths

WARM = 0.02
"""The rate rises over this share of the training,"""
STEADY = 0.3
"""stays until here, and falls to nothing at the end: Bergsma et al. 2025 find nothing better for short budgets."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of the training."""

    until: float
    """Its end, as a share of the training."""
    tokens: int
    """Tokens that one step learns from, unspoken ones included."""
    longest: int
    """Tokens that a sample may have."""
    lengths: Lengths
    """How much room samples get, and how often."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Tasks whose share is so many times as large here."""


STAGES = (
    Stage(0.15, 8_192, 320, (Length(192, 3), Length(320, 1)), {"copy": 4.0, "pick from a list": 2.0}),
    Stage(0.55, 12_288, 640, (Length(256, 6), Length(512, 3))),
    Stage(
        1.0,
        16_384,
        4_096,
        (Length(256, 5), Length(512, 3), Length(1024, 0.6), Length(2048, 0.2), Length(4096, 0.1)),
        {
            "arithmetic": 1.6,
            "extraction": 3.0,
            "tool choice": 1.4,
            "style": 1.6,
            "several calls": 2.0,
            "table": 2.5,
            "upper case": 2.0,
            "fill in the middle": 1.3,
        },
    ),
)
"""Short samples first and many to copy, since all else rests on that; long ones once there is something to keep, and
more of what is learned slowly while the rate falls."""


def stage(progress: float, stages: tuple[Stage, ...] = STAGES) -> Stage:
    """The stage at this share of the training."""
    return next((each for each in stages if progress < each.until), stages[-1])


def rate(progress: float) -> float:
    """The rate of learning at this share of the training, as a share of its peak."""
    if progress < WARM:
        return max(progress / WARM, 0.01)
    return min(1.0, max(0.0, (1 - progress) / (1 - STEADY)))
