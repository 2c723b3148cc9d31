"""How much a mask depends on where the nodule is clicked: Dice between masks of jittered clicks.

The ULS23 challenge (de Grauw et al., Med Image Anal 2025) scores the robustness of click-driven
segmentation in this way: several clicks on one lesion should draw one mask.
"""

from __future__ import annotations

import itertools
import zlib

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.volume import CTVolume
from resmtnet.findings import Finding
from resmtnet.inference.protocol import AnswersPoints
from resmtnet.types import Point

REACH_SHARE = 0.25
"""Clicks fall within this share of the nodule's diameter around its centre."""
LEAST_REACH_MM = 1.0


def jittered(centre_lps_mm: Point, diameter_mm: float, count: int, seed: int) -> list[Point]:
    """Return clicks evenly spread in a ball around the centre of a nodule.

    Args:
        centre_lps_mm: of the nodule.
        diameter_mm: of the nodule.
        count: how many clicks.
        seed: the same one gives the same clicks.

    >>> jittered((0.0, 0.0, 0.0), 8.0, 1, 0) == jittered((0.0, 0.0, 0.0), 8.0, 1, 0)
    True
    """
    draw = np.random.default_rng(seed)
    ways = draw.normal(size=(count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    reach_mm = max(LEAST_REACH_MM, REACH_SHARE * diameter_mm)
    away_mm = reach_mm * draw.uniform(size=(count, 1)) ** (1 / 3)
    return [
        (float(x), float(y), float(z)) for x, y, z in np.asarray(centre_lps_mm) + away_mm * ways
    ]


def dice_of_masks(one: Finding, other: Finding) -> float:
    """Return the Dice of two masks on the same CT, 0 where one of them is missing."""
    if one.mask is None or other.mask is None or one.start_ijk is None or other.start_ijk is None:
        return 0.0
    total = int(np.count_nonzero(one.mask)) + int(np.count_nonzero(other.mask))
    start, other_start = np.array(one.start_ijk)[::-1], np.array(other.start_ijk)[::-1]
    first = np.maximum(start, other_start)
    last = np.minimum(start + one.mask.shape, other_start + other.mask.shape)
    if not total or (last <= first).any():
        return 0.0
    mine = one.mask[_box(first - start, last - start)] > 0
    theirs = other.mask[_box(first - other_start, last - other_start)] > 0
    return float(2 * np.count_nonzero(mine & theirs) / total)


def _box(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def click_dice(
    model: AnswersPoints, ct: CTVolume, finding: Finding, diameter_mm: float, count: int
) -> float | None:
    """Return the mean Dice of all pairs of masks: that of a finding and of clicks around its point.

    Args:
        model: that gave the finding.
        ct: the CT.
        finding: at the nodule's centre.
        diameter_mm: of the nodule, as its readers say.
        count: further clicks; none gives None.
    """
    if count < 1:
        return None
    seed = zlib.crc32(ct.image_id.encode())
    clicks = jittered(finding.centre_lps_mm, diameter_mm, count, seed)
    found = [finding, *model(ct, clicks)]
    return float(np.mean([dice_of_masks(a, b) for a, b in itertools.combinations(found, 2)]))
