"""Whether counts look like draws from a distribution: Pearson's chi-squared test, with a fixed threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

RARE = 5.0
"""Expected counts below this are put together: the test's distribution holds for large ones only."""


def deviates(drawn: Sequence[int], probabilities: Sequence[float]) -> str | None:
    """What is wrong with the draws, or None; right ones are called wrong less than once in a million."""
    seen = np.bincount(np.asarray(drawn), minlength=len(probabilities)).astype(float)
    expected = len(drawn) * np.asarray(probabilities)
    if impossible := np.flatnonzero(seen[expected == 0]).tolist():
        return f"{len(impossible)} tokens were drawn that have no probability"
    often = expected >= RARE
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    if expected[-1] < RARE:  # too few even together: they join the least likely of the others
        least = int(expected[:-1].argmin())
        expected[least] += expected[-1]
        seen[least] += seen[-1]
        seen, expected = seen[:-1], expected[:-1]
    freedom = len(expected) - 1
    if freedom == 0:
        return None
    statistic = float(((seen - expected) ** 2 / expected).sum())
    # Wilson and Hilferty 1931: the cube root of chi-squared over its freedom is nearly normal.
    spread = 2 / (9 * freedom)
    deviation = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return f"chi-squared is {statistic:.1f} at {freedom} degrees of freedom" if deviation > 5 else None
