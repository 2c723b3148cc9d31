"""Whole-CT search: bright, round blobs inside the lungs, of 4 to 32 mm, merged and ranked.

Small blobs are searched for in the CT as it is, larger ones where vessels were taken out by a
median filter and everything denser than ground glass looks alike: a haze of 20 mm then stands out
as a solid nodule does. Both lists have their own places, so that neither crowds out the other.
What is not listed may still be there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
from scipy import ndimage

from resmtnet.ct.volume import CTVolume
from resmtnet.errors import InputError
from resmtnet.inference.candidates.blobs import Candidate, blobs_of_size
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import LungRegion, closed_lungs, lung_region

_FINE_MM = 1.5
"""Voxels of the search for small blobs; finding one of 4 mm needs no finer."""
_COARSE_MM = 3.0
"""Voxels of the lung mask and of the search for large blobs."""
_SMALL_MM = (4.0, 5.7, 8.0)
_LARGE_MM = (8.0, 11.3, 16.0, 22.6, 32.0)
"""Two sizes per doubling; larger masses still answer at the last one."""
_MEDIAN_VOXELS = 3
"""Edge of the median's cube, in coarse voxels: vessels up to about 5 mm vanish in it."""
_GLASS_HU = -400.0
"""What is denser counts as this in the search for large blobs."""
_LARGE_PEAKS = 150
"""Maxima looked at of each large size; of small sizes there are more."""
_LARGE_SHARE = 0.4
"""Of the candidates, for which large blobs have the first claim."""
_APART_MM = 5.0
_THREADS = 2


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
    fine_region, coarse_region = (lung_region(grid, lungs) for grid in (fine, coarse))
    hazy_region = _without_vessels(coarse_region)
    with ThreadPoolExecutor(_THREADS) as pool:  # scipy's filters let other threads run
        of_large = pool.map(lambda mm: blobs_of_size(hazy_region, mm, _LARGE_PEAKS), _LARGE_MM)
        of_small = pool.map(lambda mm: blobs_of_size(fine_region, mm), _SMALL_MM)
        large, small = list(chain(*of_large)), list(chain(*of_small))
    reserved = _best_apart(large, math.floor(_LARGE_SHARE * maximum))
    best = _best_apart([*small, *large], maximum)
    merged = _best_apart([*reserved, *best], 2 * maximum)
    kept = [one for one in merged if one in reserved]
    kept += [one for one in merged if one not in reserved][: maximum - len(kept)]
    return _best_apart(kept, maximum)


def _without_vessels(region: LungRegion) -> LungRegion:
    """Return a region in which vessels are gone and nothing is denser than ground glass."""
    hu = ndimage.median_filter(region.grid.hu, size=_MEDIAN_VOXELS)
    np.minimum(hu, _GLASS_HU, out=hu)
    return LungRegion(SearchGrid(hu, region.grid.geometry), region.inside)


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
