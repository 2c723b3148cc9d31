"""The "prior" block of a finding, and the guideline category that the prior makes possible."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resmtnet.findings import Finding, Size, finite
from resmtnet.followup.category import comparison_of, follow_up_guidelines
from resmtnet.followup.change import (
    SIZES,
    Change,
    bts,
    change_of,
    doubling_time,
    lung_rads_growth,
    trend,
)
from resmtnet.followup.solid_part import NAME as SOLID
from resmtnet.followup.solid_part import SolidChange, solid_change, solid_growth, texture_of
from resmtnet.followup.visit import Visit
from resmtnet.types import Json, Point

PAIRED, NEW, NOT_COVERED, UNCLEAR, GIVEN = "paired", "new", "not_covered", "unclear", "given"
SHARED = "shared"
"""Status of a nodule of the current CT: found in the prior too; not there; the prior does not show
the place; the registration is too poor to tell; the prior is a size that the user gives; the place
shows a nodule that is paired with another one, since both are one or have merged."""


@dataclass(frozen=True)
class Before:
    """A nodule on the prior CT, as far as it is known."""

    size: Size
    nodule_id: str | None = None
    """Of the nodule there."""
    place_lps_mm: Point | None = None
    distance_mm: float | None = None
    """Between the nodule of the current CT and the mapped place of this one."""
    tracking_uid: str | None = None
    """The nodule of the current CT keeps it."""
    texture: str | None = None
    """"non-solid", "part-solid" or "solid"; None where nobody says."""
    category: str | None = None
    """Lung-RADS category, from which a stable nodule steps down."""
    first_category: str | None = None
    """The same as if the prior were a first screening CT."""


def with_prior(
    finding: Finding,
    status: str,
    visit: Visit,
    days: int | None,
    before: Before | None = None,
    *,
    place_lps_mm: Point | None = None,
    widening: float = 0.0,
    notes: tuple[str, ...] = (),
) -> Finding:
    """Return a finding of the current CT with what its prior says.

    Args:
        finding: of the current CT.
        status: PAIRED, NEW, NOT_COVERED, UNCLEAR, GIVEN or SHARED.
        visit: the prior CT.
        days: between both CTs; None where a date is not known.
        before: the nodule on the prior CT; None without one.
        place_lps_mm: where it would lie there, of a nodule without one.
        widening: of the interval of each change; see `acquisition.widening`.
        notes: what a reader must know.
    """
    size = before.size if before else None
    changes = (
        {name: change_of(name, size, finding.size, widening) for name in SIZES} if size else {}
    )
    volume = changes.get("volume_mm3")
    texture = texture_of(finding)
    solid = solid_change(size, finding.size, before.texture, texture) if before and size else None
    told = {name: one.to_json() for name, one in (*changes.items(), (SOLID, solid)) if one}
    growth = _lung_rads(changes.get("mean_diameter_mm"), solid, days) if size else None
    place = before.place_lps_mm if before else place_lps_mm
    block: Json = {
        "status": status,
        "image_id": visit.image_id,
        "date": visit.day.isoformat() if visit.day else None,
        "interval_days": days,
        "nodule_id": before.nodule_id if before else None,
        "tracking_uid": before.tracking_uid if before else None,
        "place_lps_mm": place and [finite(mm) for mm in place],
        "distance_mm": finite(before.distance_mm, 2) if before else None,
        "size": size.to_json() if size else None,
        "change": told if size else None,
        "trend": trend(volume),
        "volume_doubling_time": doubling_time(volume, days),
        "lung_rads": growth,
        "bts": bts(volume) if size else None,
        "notes": [*_notes(volume, days, size), *_of_solid(texture, solid, size), *notes],
    }
    guidelines = follow_up_guidelines(
        finding,
        comparison_of(growth, new=status == NEW),
        before.category if before else None,
        before.first_category if before else None,
        growth,
    )
    return replace(finding, prior=block, guidelines=guidelines)


def _lung_rads(diameter: Change | None, solid: SolidChange | None, days: int | None) -> Json:
    """Return what Lung-RADS says of the whole nodule and of its solid part: one is enough."""
    whole, part = lung_rads_growth(diameter, days), solid_growth(solid, days)
    told = [one["growth"] for one in (whole, part) if one is not None]
    growth = True if True in told else None if None in told else False
    return {"growth": growth, "note": whole["note"], "solid_part": part}


def _notes(volume: Change | None, days: int | None, size: Size | None) -> list[str]:
    if size is None:
        return []
    notes = []
    if volume is not None and volume.ratio_interval_90 is None:
        notes.append("one of the volumes has no interval: whether the change is chance is unknown")
    if days is None:
        notes.append("no doubling time: the dates of both CTs are needed")
    elif days == 0:
        notes.append("no doubling time: both CTs are of one day")
    return notes


def _of_solid(texture: str | None, solid: SolidChange | None, size: Size | None) -> list[str]:
    if size is None or solid is not None or texture != "part-solid":
        return []
    return ["growth of the solid part is not judged: it was not measured at both times"]
