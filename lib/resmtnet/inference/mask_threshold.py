"""The probability at which one nodule's mask is cut: where the mask and the regression agree best.

The decoder's edges are soft, so that the level decides the size; a fixed one misses what is faint
and takes in what is attached. The most probable level given both: the measured diameter should be
the regressed one, within its predicted spread, and the level the usual one, within SLACK. What
looks sub-solid is drawn fainter than what is solid: its usual level is lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable

LEVELS = tuple(n / 40 for n in range(2, 29))
"""Probabilities at which a mask may be cut."""
SLACK = 1.0
"""Spread of levels around the usual one, in units of the logit."""
LARGEST_SEEN_MM = 40.0
"""Of what is larger the regression, which sees 48 mm, says too little to move the mask."""
POSSIBLE = 3.0
"""Standard deviations within which the regression must allow for so large a nodule."""
FARTHEST = 4.0
"""A mask that is there at an unusual level alone, and so many standard deviations from the
regressed size, is no mask of the nodule but of what lies around it."""
SUBSOLID_SHIFT = 1.5
"""By how much the logit of the usual level falls where a nodule is surely sub-solid."""


def usual_level(solid_level: float, subsolid: float) -> float:
    """Return the usual level of a nodule.

    Args:
        solid_level: of solid nodules of this size.
        subsolid: probability that it is not solid.

    >>> round(usual_level(0.3, 1.0), 3)
    0.087
    """
    return 1 / (1 + math.exp(SUBSOLID_SHIFT * subsolid - _logit(solid_level)))


def settle(
    diameter_mm: Callable[[float], float | None],
    usual: float,
    regressed_mm: float,
    sigma: float,
) -> float:
    """Return the level of least cost: of the distance to the regressed size and to the usual level.

    A mask shrinks as the level rises, so that only levels on one side of the usual one can be
    better; they are looked at until their distance alone costs more than the best so far.

    Args:
        diameter_mm: equivalent diameter of the mask at a level, mm; None without a mask.
        usual: level of such nodules; see usual_level.
        regressed_mm: equivalent diameter that the regression says.
        sigma: predicted standard deviation of its log.

    >>> settle(lambda level: 10 * (1 - level), 0.3, 8.0, 0.2)
    0.25
    """

    def distance(level: float) -> float:
        return ((_logit(level) - _logit(usual)) / SLACK) ** 2

    def cost(level: float, measured_mm: float | None) -> float:
        if measured_mm is None:
            return math.inf
        differs = (math.log(measured_mm) - math.log(regressed_mm)) / sigma
        if usual_mm is None and abs(differs) > FARTHEST:
            return math.inf
        return differs**2 + distance(level)

    at = min(range(len(LEVELS)), key=lambda n: abs(LEVELS[n] - usual))
    best = LEVELS[at]
    usual_mm = diameter_mm(best)
    may_be_a_mass = math.log(LARGEST_SEEN_MM / regressed_mm) <= POSSIBLE * sigma
    if usual_mm is not None and usual_mm > LARGEST_SEEN_MM and may_be_a_mass:
        return best
    least = cost(best, usual_mm)
    larger = usual_mm is not None and usual_mm > regressed_mm
    for level in LEVELS[at + 1 :] if larger else LEVELS[:at][::-1]:
        if distance(level) >= least:
            break
        found = cost(level, diameter_mm(level))
        if found < least:
            best, least = level, found
    return best


def moved_by(factor: float, level: float, diameter_mm: Callable[[float], float | None]) -> float:
    """Return the level at which a mask is larger by a factor; the nearest, where none is.

    Args:
        factor: of the diameter; 1 changes nothing.
        level: one of LEVELS, from which the mask is moved.
        diameter_mm: equivalent diameter of the mask at a level, mm; None without a mask.

    >>> moved_by(1.25, 0.4, lambda level: 10 * (1 - level))
    0.25
    """
    start = diameter_mm(level)
    if factor == 1 or start is None or level not in LEVELS:
        return level
    at = LEVELS.index(level)
    best, least = level, abs(math.log(factor))
    for other in LEVELS[:at][::-1] if factor > 1 else LEVELS[at + 1 :]:
        found = diameter_mm(other)
        differs = math.inf if found is None else abs(math.log(found / (factor * start)))
        if differs > least:
            break
        best, least = other, differs
    return best


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
