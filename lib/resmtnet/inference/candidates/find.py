"""Whole-CT search: bright, round blobs inside the lungs, of 4 to 32 mm, merged and ranked.

What it does not list may still be there: it has been tried on phantoms and a few CTs, and no
recall is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from resmtnet.ct.volume import CTVolume
from resmtnet.errors import InputError
from resmtnet.inference.candidates.blobs import Candidate, blobs_of_size
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import closed_lungs, lung_region

_FINE_MM = 1.5
"""Voxels of the search for small blobs; finding one of 4 mm needs no finer."""
_COARSE_MM = 3.0
"""Voxels of the lung mask and of the search for large blobs."""
_COARSE_FROM_MM = 11.0
_DIAMETERS_MM = tuple(float(d) for d in np.geomspace(4.0, 32.0, 7))
"""Two sizes per doubling; larger masses still answer at the last one."""
_APART_MM = 5.0


def find_candidates(ct: CTVolume, *, maximum: int = 10) -> list[Candidate]:
    """Places in the lungs that look like a nodule, the best first.

    Args:
        ct: a chest CT in any orientation; the whole of it is read.
        maximum: the most candidates to return, at least 1.

    Returns:
        Candidates at least 5 mm and half a diameter apart; none if the CT shows no lung. An
        empty list is not a negative read.

    Raises:
        InputError: `maximum` is below 1.
    """
    if maximum < 1:
        raise InputError(f"maximum is {maximum} candidates; it must be at least 1.")
    fine = SearchGrid.of(ct, _FINE_MM)
    coarse = fine.resampled(_COARSE_MM)
    lungs = closed_lungs(coarse)
    if not lungs.any():
        return []
    small, large = (lung_region(grid, lungs) for grid in (fine, coarse))
    found: list[Candidate] = []
    for diameter_mm in _DIAMETERS_MM:
        found += blobs_of_size(large if diameter_mm >= _COARSE_FROM_MM else small, diameter_mm)
    return _best_apart(found, maximum)


def _best_apart(found: Iterable[Candidate], maximum: int) -> list[Candidate]:
    """The best first, and of those that lie together only the best."""
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda c: (-c.score, c.centre_lps_mm)):
        if len(kept) == maximum:
            break
        if all(
            math.dist(one.centre_lps_mm, other.centre_lps_mm)
            >= max(_APART_MM, one.diameter_mm / 2, other.diameter_mm / 2)
            for other in kept
        ):
            kept.append(one)
    return kept
