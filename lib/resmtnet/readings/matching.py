"""Which nodule a point or a region is of: the one rule, for every way in.

A reader marks a place: with a click, a point, a line or a box, with the centre of a reading, or by
painting a region in a mask. The place is matched with the nodules that are known of the image:
those that a model has answered, and those that earlier readings are of.

A point is of a nodule
  1. if it lies within the nodule's reach. The reach is half of the nodule's greatest diameter, or
     of what was drawn through it, but at least 6 mm and at most 20 mm.
  2. Of several nodules in reach it is of the one whose name it bears (N1), then of one whose
     answer the reader was given, then of the latest answer, then of the nearest.
  3. Where no nodule is in reach, it is of a new one.

A region of a mask is of a nodule that a model has answered
  1. if the two share a tenth of the smaller one, or, where the answer had no mask, if the nodule's
     point lies in the region.
  2. Of several nodules it is of the one that it fits best (Dice), then of one whose answer the
     reader was given, then of the latest answer.
  3. Regions of one segment over one nodule are one. Where two segments share a nodule, the one with
     more voxels over it is of it, and the other is a new nodule.
  4. Where it shares too little with every nodule, it is a new one.

Of what a reader sends together, each nodule gets one reading.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.regions import (
    LARGEST_MM,
    Overlap,
    Region,
    is_all_of,
    joined,
    overlap,
)
from resmtnet.types import Point

SAME_NODULE_MM = 6.0
"""The least reach of a nodule."""
FARTHEST_MM = 20.0
"""The greatest reach, whatever size was read: half of 500 mm holds a whole lung."""
SHARED = 0.1
"""A region is of a nodule if this share of the smaller of the two is common to both."""
_COVERED = 0.5
"""A region covers a further nodule if it holds this share of it."""
_DIAMETERS = ("long_axis_mm", "mean_diameter_mm", "equivalent_diameter_mm")


def radius_mm(sizes: Mapping[str, float | None]) -> float:
    """Return half of the greatest diameter that is known; 0 without one.

    Args:
        sizes: of a reading, or "size" of a finding.

    >>> radius_mm({"long_axis_mm": 12.0, "mean_diameter_mm": None, "volume_mm3": 700.0})
    6.0
    """
    return max(float(sizes.get(name) or 0.0) / 2 for name in _DIAMETERS)


def reach_mm(*radii_mm: float) -> float:
    """Return how far from its centre a point is still of a nodule.

    Args:
        radii_mm: of the nodule, and of what was drawn through it.

    >>> reach_mm(), reach_mm(2.0, 9.0), reach_mm(80.0)
    (6.0, 9.0, 20.0)
    """
    return min(max((SAME_NODULE_MM, *radii_mm)), FARTHEST_MM)


def distance_in_reach_mm(
    point_lps_mm: Point, centres_lps_mm: Iterable[Point], *radii_mm: float
) -> float | None:
    """Return how far a point lies from a nodule, or None where it is not of the nodule.

    Args:
        point_lps_mm: to be matched.
        centres_lps_mm: of the nodule; the nearest counts.
        radii_mm: see `reach_mm`.

    >>> [distance_in_reach_mm((0, 0, 7), [(0, 0, 0)], radius) for radius in (5, 8)]
    [None, 7.0]
    """
    distance = min(math.dist(point_lps_mm, centre) for centre in centres_lps_mm)
    return distance if distance <= reach_mm(*radii_mm) else None


def nodule_at(
    point_lps_mm: Point, name: str | None, known: Sequence[AnsweredNodule], *radii_mm: float
) -> AnsweredNodule | None:
    """Return the answered nodule that a point is of; None where it is of none.

    Args:
        point_lps_mm: to be matched.
        name: that the mark bears, such as N1, or None.
        known: nodules to choose from.
        radii_mm: of what was drawn there, such as half of a line.
    """
    found = []
    for nodule in known:
        centres = (nodule.centre_lps_mm, nodule.asked_lps_mm)
        distance = distance_in_reach_mm(point_lps_mm, centres, radius_mm(nodule.sizes), *radii_mm)
        if distance is not None:
            order = (nodule.id != name, nodule.seen is not True, nodule.answer, distance)
            found.append((order, nodule))
    return min(found, key=lambda pair: pair[0])[1] if found else None


@dataclass(eq=False)
class MatchedRegion:
    """One nodule as it is drawn: a region, or several of one segment over one known nodule."""

    region: Region
    known: AnsweredNodule | None = None
    """The nodule that it is of; None for a new one."""
    also_covers: list[AnsweredNodule] = field(default_factory=list)
    """Further nodules of the same answer that lie under it."""
    unchanged: bool = False
    """Drawn as the model had drawn it, as far as can be known."""
    border_differs: bool = False
    """It is so but for voxels at the border, which resampling may have changed."""
    lesser_part: bool = False
    """It is a part of a known nodule of which another segment has more."""


def match_regions(
    found: Sequence[Region], known: Sequence[AnsweredNodule], resampled: bool = False
) -> list[MatchedRegion]:
    """Match the regions of a mask, each known nodule at most once.

    Args:
        found: the regions of all segments.
        known: what models had answered for the image.
        resampled: the label map may differ from what was drawn by voxels at the border.
    """
    matched: list[MatchedRegion] = []
    parts: dict[tuple[int, int], list[Region]] = defaultdict(list)
    for region in found:
        overlaps = _overlaps(region, known, resampled)
        unchanged = _unchanged(region, overlaps)
        if unchanged:
            matched += [
                MatchedRegion(
                    _alone(region, nodule),
                    nodule,
                    unchanged=True,
                    border_differs=overlaps[nodule].same and not overlaps[nodule].exact,
                )
                for nodule in unchanged
            ]
        elif overlaps:
            parts[region.value, known.index(_best(overlaps))].append(region)
        else:
            matched.append(MatchedRegion(region, _marked_within(region, known)))
    taken = [one.known for one in matched]
    owner = _owners(parts)
    for (value, n), regions in parts.items():
        whole = joined(regions)
        if value != owner[n] or known[n] in taken:
            matched.append(MatchedRegion(whole, lesser_part=True))
            continue
        overlaps = _overlaps(whole, known, resampled)
        fit = overlaps.get(known[n])
        unedited = fit is not None and fit.same
        blurred = fit is not None and fit.same and not fit.exact
        covered = _also_covered(overlaps, known[n])
        matched.append(MatchedRegion(whole, known[n], covered, unedited, blurred))
    return matched


def _owners(parts: Mapping[tuple[int, int], Sequence[Region]]) -> dict[int, int]:
    """The segment with the most voxels over each nodule; of equal ones the first."""
    voxels = {key: sum(int(one.mask.sum()) for one in regions) for key, regions in parts.items()}
    owner: dict[int, int] = {}
    for value, n in parts:
        if n not in owner or voxels[value, n] > voxels[owner[n], n]:
            owner[n] = value
    return owner


def _overlaps(
    region: Region, known: Iterable[AnsweredNodule], resampled: bool
) -> dict[AnsweredNodule, Overlap]:
    """The known nodules that share enough with a region."""
    if region.extent_mm > LARGEST_MM:
        return {}
    size = int(region.mask.sum())
    found = {k: how for k in known if (how := overlap(region, k, resampled)) is not None}
    return {k: how for k, how in found.items() if max(how.voxels / size, how.of_known) >= SHARED}


def _best(overlaps: Mapping[AnsweredNodule, Overlap]) -> AnsweredNodule:
    """The nodule that fits best; of equal ones the answer that was given, then the latest."""
    return max(overlaps, key=lambda k: (round(overlaps[k].dice, 6), k.seen is True, -k.answer))


def _unchanged(region: Region, overlaps: Mapping[AnsweredNodule, Overlap]) -> list[AnsweredNodule]:
    """The known nodules that a region shows just as one answer has drawn them."""
    same = {k: how for k, how in overlaps.items() if how.same}
    if same:
        return [_best(same)]
    answers: dict[int, list[AnsweredNodule]] = defaultdict(list)
    for k, how in overlaps.items():
        if how.of_known == 1:
            answers[k.answer].append(k)
    for _, several in sorted(answers.items()):
        if len(several) > 1 and is_all_of(region, several):
            return several
    return []


def _also_covered(
    overlaps: Mapping[AnsweredNodule, Overlap], best: AnsweredNodule
) -> list[AnsweredNodule]:
    """Other nodules of the same answer that lie under the same region."""
    return [
        k
        for k, how in overlaps.items()
        if k is not best and k.answer == best.answer and how.of_known >= _COVERED
    ]


def _alone(region: Region, known: AnsweredNodule) -> Region:
    """The known nodule alone, where a region holds several that touch."""
    if known.mask is None or known.grid is None:
        return region
    return Region(region.value, known.mask, known.grid)


def _marked_within(region: Region, known: Iterable[AnsweredNodule]) -> AnsweredNodule | None:
    """The nodule that was answered without a mask, and whose point lies in a region."""
    if region.extent_mm > LARGEST_MM:
        return None
    return next((k for k in known if k.mask is None and region.contains(k.centre_lps_mm)), None)
