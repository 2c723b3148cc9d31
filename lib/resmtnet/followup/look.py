"""Looks for a nodule at the place where the registration says that it should lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding
from resmtnet.followup.pairing import reach_mm
from resmtnet.followup.registration import Lungs
from resmtnet.inference.candidates import find_candidates
from resmtnet.inference.postprocessing import PROBABLY_NOT
from resmtnet.inference.protocol import NoduleModel
from resmtnet.types import Point

PROPOSED = 60
"""Places that a search of the whole CT proposes."""
_RECENTRED_MM = 1.0
"""A nodule whose centroid is further than this from the place is measured again from there."""
_UNKNOWN_MM = 6.0


@dataclass(frozen=True, eq=False)
class Places:
    """A CT in which nodules are looked for."""

    ct: CTVolume
    lungs: Lungs

    @cached_property
    def proposals(self) -> list[Point]:
        """What a search of the whole CT proposes; it takes seconds, and is often not needed."""
        return [one.centre_lps_mm for one in find_candidates(self.ct, maximum=PROPOSED)]


def place_of(finding: Finding) -> Point:
    """Return where a nodule lies: its centroid, or the point asked for where none was measured."""
    return finding.centroid_lps_mm or finding.centre_lps_mm


def size_mm(finding: Finding) -> float:
    """Return the equivalent diameter of a nodule."""
    return finding.size.equivalent_diameter_mm or _UNKNOWN_MM


def look(
    model: NoduleModel,
    where: Places,
    place: Point,
    side: int,
    known: Finding,
    context: str | None,
) -> Finding | None:
    """Return the nodule at a place, or None where there is none.

    The place itself is characterised. If it shows no nodule, what a search of the CT proposes
    within reach is judged, as far as it lies in the same lung.

    Args:
        model: a Characterizer.
        where: the CT.
        place: inside it, LPS mm.
        side: of the lungs in which the nodule lies; 0 where it is not known.
        known: the nodule as the other CT shows it.
        context: of the guideline category of what is found.
    """
    reach = reach_mm(size_mm(known))
    here = model(where.ct, [place], context=context)[0]
    if _is_nodule(here) and math.dist(place_of(here), place) <= max(4.0, size_mm(here) / 2):
        return _recentred(model, where, place, here, context)
    near = [one for one in where.proposals if math.dist(one, place) <= reach]
    near = [one for one in near if not side or where.lungs.side(one) in (0, side)]
    judged = model.find(where.ct, points=near, max_candidates=len(near)) if near else []
    if not judged:
        return None
    best = min(judged, key=lambda one: math.dist(one.centre_lps_mm, place))
    found = model(where.ct, [place_of(best)], context=context)[0]
    return found if _is_nodule(found) else None


def _is_nodule(finding: Finding) -> bool:
    return PROBABLY_NOT not in finding.warnings and finding.size.volume_mm3 is not None


def _recentred(
    model: NoduleModel, where: Places, place: Point, found: Finding, context: str | None
) -> Finding:
    """Measure a nodule from its own centroid, as a reader would click it."""
    centre = place_of(found)
    if math.dist(centre, place) <= _RECENTRED_MM or not where.ct.geometry.contains(centre):
        return found
    again = model(where.ct, [centre], context=context)[0]
    return again if _is_nodule(again) else found
