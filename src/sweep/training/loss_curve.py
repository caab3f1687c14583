"""Tell from the points of a training loss whether anything was learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEAST_POINTS = 4
"""Fewer points show no direction."""
LEAST_FALL = 0.05
"""A loss that falls by less of it than this is as good as level."""
CONFIDENCE = 0.95
"""So a run whose loss falls by more is called one that learnt nothing in 5 % of cases at most."""


def may_have_fallen(points: Sequence[float]) -> bool:
    """Return whether the loss may have fallen from its first quarter to its last.

    It is said not to have fallen where a fall by `LEAST_FALL` of it can be excluded with
    `CONFIDENCE`. The noise of a point is told from the steps between neighbours.
    """
    from scipy.special import stdtrit

    losses = np.array(points)
    if len(losses) < LEAST_POINTS:
        return True
    quarter = max(len(losses) // 4, 1)
    first, last = losses[:quarter].mean(), losses[-quarter:].mean()
    noise = math.sqrt(float((np.diff(losses) ** 2).mean()) / quarter)
    most = first - last + stdtrit(len(losses) - 1, CONFIDENCE) * noise
    return bool(most >= LEAST_FALL * first)
