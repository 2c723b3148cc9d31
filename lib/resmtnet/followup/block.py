"""The "prior" block of a finding, and the guideline category that the prior makes possible."""

from __future__ import annotations

from dataclasses import replace

from resmtnet.characteristics import TEXTURE
from resmtnet.findings import Finding, Size, finite
from resmtnet.followup.change import (
    SIZES,
    Change,
    bts,
    change_of,
    doubling_time,
    lung_rads_growth,
    trend,
)
from resmtnet.followup.visit import Visit
from resmtnet.guidelines import NO_COMPARISON, assess
from resmtnet.types import Json, Point

PAIRED, NEW, NOT_COVERED, UNCLEAR, GIVEN = "paired", "new", "not_covered", "unclear", "given"
"""Status of a nodule of the current CT: found in the prior too; not there; the prior does not show
the place; the registration is too poor to tell; the prior is a size that the user gives."""


def with_prior(
    finding: Finding,
    status: str,
    visit: Visit,
    days: int | None,
    *,
    size: Size | None = None,
    nodule_id: str | None = None,
    place_lps_mm: Point | None = None,
    distance_mm: float | None = None,
    tracking_uid: str | None = None,
    prior_category: str | None = None,
    notes: tuple[str, ...] = (),
) -> Finding:
    """Return a finding of the current CT with what its prior says.

    Args:
        finding: of the current CT.
        status: PAIRED, NEW, NOT_COVERED, UNCLEAR or GIVEN.
        visit: the prior CT.
        days: between both CTs; None where a date is not known.
        size: of the nodule on the prior CT; None without one.
        nodule_id: of the nodule there.
        place_lps_mm: its place there, LPS mm; of a new nodule the place where it would lie.
        distance_mm: between the nodule and the mapped place of that before.
        tracking_uid: of the nodule before, which it keeps.
        prior_category: Lung-RADS category before, for a stable nodule.
        notes: what a reader must know.
    """
    changes = {name: change_of(name, size, finding.size) for name in SIZES} if size else {}
    volume = changes.get("volume_mm3")
    growth = lung_rads_growth(changes.get("mean_diameter_mm"), days) if size else None
    block: Json = {
        "status": status,
        "image_id": visit.image_id,
        "date": visit.day.isoformat() if visit.day else None,
        "interval_days": days,
        "nodule_id": nodule_id,
        "tracking_uid": tracking_uid,
        "place_lps_mm": place_lps_mm and [finite(mm) for mm in place_lps_mm],
        "distance_mm": finite(distance_mm, 2),
        "size": size.to_json() if size else None,
        "change": {name: one.to_json() for name, one in changes.items() if one} if size else None,
        "trend": trend(volume),
        "volume_doubling_time": doubling_time(volume, days),
        "lung_rads": growth,
        "bts": bts(volume) if size else None,
        "notes": [*_notes(volume, days, size), *notes],
    }
    comparison = _comparison(status, growth)
    return replace(
        finding, prior=block, guidelines=_guidelines(finding, comparison, prior_category, growth)
    )


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


def _comparison(status: str, growth: Json | None) -> str | None:
    """Return what guidelines.lung_rads calls the comparison; None where it cannot be told."""
    if status == NEW:
        return "new"
    if growth is None or growth["growth"] is None:
        return None
    return "growing" if growth["growth"] else "stable"


def _guidelines(
    finding: Finding, comparison: str | None, prior_category: str | None, growth: Json | None
) -> Json:
    """Return the guideline block, with the category that only a comparison makes possible."""
    told = finding.guidelines
    if NO_COMPARISON not in told.get("assumptions", ()):
        return told
    if comparison is None:
        why = [growth["note"]] if growth else []
        return {**told, "assumptions": [*told["assumptions"], *why]}
    size = finding.size
    block = assess(
        told["context"],
        finding.characteristics[TEXTURE.name].probabilities,
        size.mean_diameter_mm,
        size.interval_90.get("mean_diameter_mm"),
        size.solid_component_mm,
        size.interval_90.get("solid_component_mm"),
        comparison=comparison,
        prior_category=prior_category,
    ).to_json()
    if comparison == "stable" and prior_category:
        block["assumptions"].append(f"category of the prior CT: {prior_category}")
    return block
