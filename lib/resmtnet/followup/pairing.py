"""Which nodule of a prior CT is which of the current one: one to one, never across the lungs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from resmtnet.types import Point

REACH_MM = 10.0
"""A nodule lies no further than this, and half of its diameter, from its mapped place."""
_PER_DOUBLING_MM = 2.0
"""What a diameter of double or half counts as, beside the distance."""
_FORBIDDEN = 1e6


@dataclass(frozen=True)
class Spot:
    """A nodule in the space of the current CT."""

    lps_mm: Point
    diameter_mm: float
    side: int
    """Of the lungs: see registration.Lungs.side; 0 where it is not known."""


def reach_mm(diameter_mm: float) -> float:
    """Return how far from its mapped place a nodule may lie.

    >>> reach_mm(8.0)
    14.0
    """
    return REACH_MM + diameter_mm / 2


def pair(prior: Sequence[Spot], current: Sequence[Spot]) -> list[tuple[int, int]]:
    """Return the pairs (index in prior, index in current) of the least total distance.

    Args:
        prior: nodules of the prior CT at their mapped places.
        current: nodules of the current CT.

    >>> before = [Spot((0, 0, 0), 8.0, 1), Spot((9, 0, 0), 8.0, 1)]
    >>> pair(before, [Spot((8, 0, 0), 8.0, 1), Spot((0, 1, 0), 8.0, 2)])
    [(1, 0)]
    """
    if not prior or not current:
        return []
    cost = np.array([[_cost(was, now) for now in current] for was in prior])
    rows, columns = linear_sum_assignment(cost)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if cost[row, column] < _FORBIDDEN
    ]


def _cost(was: Spot, now: Spot) -> float:
    distance = math.dist(was.lps_mm, now.lps_mm)
    across = was.side and now.side and was.side != now.side
    if across or distance > reach_mm(max(was.diameter_mm, now.diameter_mm)):
        return _FORBIDDEN
    sizes = abs(math.log2(max(now.diameter_mm, 1.0) / max(was.diameter_mm, 1.0)))
    return distance + _PER_DOUBLING_MM * sizes
