"""Saliency by occlusion: how the probability changes when a part of the CT is covered.

References:
    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.volume import CTVolume
from resmtnet.types import Point

BLOCK_MM = 8.0
"""Edge of the square that is covered, through all slices."""
FRAME_MM = 4.0
"""Width of the frame around it whose mean HU, slice by slice, covers it."""
STEP_MM = 4.0
FIELD_MM = 40.0
"""Edge of the square that is searched."""

ProbabilityOf = Callable[[CTVolume, Point], float]
"""P(malignant) of the nodule at a point (LPS mm)."""


def centres_mm() -> NDArray[np.float64]:
    """Return the places of the block along one axis, mm from the nodule's centre.

    >>> centres_mm().tolist()
    [-16.0, -12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0, 16.0]
    """
    half = (FIELD_MM - BLOCK_MM) / 2
    return np.arange(-half, half + STEP_MM / 2, STEP_MM)


def occlusion(
    probability_of: ProbabilityOf, ct: CTVolume, centre_lps_mm: Point
) -> NDArray[np.float64]:
    """Return what each spot around a nodule adds to its probability.

    Args:
        probability_of: asked once for the CT as it is, and once for each place of the block.
        ct: small; its axes i and j run along L and P.
        centre_lps_mm: of the nodule.

    Returns:
        [rows, columns] of centres_mm(): probability with the spot seen less that with it covered.
    """
    hu = ct.array()
    seen = probability_of(ct, centre_lps_mm)
    places = centres_mm()
    added = np.zeros((len(places), len(places)))
    for row, y in enumerate(places):
        for column, x in enumerate(places):
            covered = _with_block(ct, hu, (centre_lps_mm[0] + x, centre_lps_mm[1] + y))
            added[row, column] = seen - probability_of(covered, centre_lps_mm)
    return added


def _with_block(ct: CTVolume, hu: NDArray[np.int16], middle_xy_mm: tuple[float, float]) -> CTVolume:
    """Return a copy with the block at a place covered by the mean of the frame around it."""
    spacing = ct.geometry.spacing_mm
    x, y = middle_xy_mm
    i, j, _ = ct.geometry.lps_to_ijk((x, y, ct.geometry.origin_lps_mm[2]))

    def window(half_mm: float) -> tuple[slice, slice]:
        ends = [
            (max(0, round(float(at - half_mm / mm))), max(0, round(float(at + half_mm / mm)) + 1))
            for at, mm in ((j, spacing[1]), (i, spacing[0]))
        ]
        return slice(*ends[0]), slice(*ends[1])

    inner, outer = window(BLOCK_MM / 2), window(BLOCK_MM / 2 + FRAME_MM)
    frame = np.zeros(hu.shape[1:], bool)
    frame[outer] = True
    frame[inner] = False
    changed = hu.copy()
    if frame.any():
        mean = hu[:, frame].mean(1).round().astype(np.int16)
        changed[:, inner[0], inner[1]] = mean[:, None, None]
    return CTVolume.from_array(
        changed,
        spacing[::-1],
        ct.geometry.origin_lps_mm,
        ct.geometry.direction,
        image_id=ct.image_id,
    )
