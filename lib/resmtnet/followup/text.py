"""A comparison in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resmtnet.followup.block import GIVEN, NEW, NOT_COVERED, PAIRED, SHARED
from resmtnet.followup.compare import VANISHED
from resmtnet.types import Json

_OF_STATUS = {
    NEW: "new: nothing is seen at its place in the prior CT",
    NOT_COVERED: "the prior CT does not show its place",
    SHARED: "its place in the prior CT shows a nodule that is paired with another one: look",
}
_OF_GONE = {
    VANISHED: "not seen any more at its place in the current CT",
    NOT_COVERED: "its place lies outside of the current CT",
    SHARED: "its place shows a nodule that is paired with another one of the prior: look",
}
NO_TREND = "change in volume unknown"
_UNCLEAR = "the two CTs could not be registered well enough to tell"


def comparison_lines(document: Json) -> list[str]:
    """Return the text of a document of schema resmtnet.comparison/1, line by line."""
    lines = [_span(document)]
    for nodule in document["current"]["nodules"]:
        lines += prior_lines(nodule, told=document["warnings"])
    nodules = {one["id"]: one for one in document["prior"]["nodules"]}
    for gone in document["gone"]:
        size = _size(nodules[gone["nodule_id"]]["size"])
        place = ",".join(f"{mm:.1f}" for mm in gone["place_lps_mm"])
        word = _OF_GONE.get(gone["status"], _UNCLEAR)
        lines.append(f"{gone['nodule_id']} of the prior CT ({size}): {word} (LPS {place})")
    if not document["current"]["nodules"] and not document["gone"]:
        lines.append("No nodule was compared.")
    return lines


def prior_lines(nodule: Json, told: Sequence[str] = ()) -> list[str]:
    """Return what the prior of one nodule of findings/1 says; nothing where nobody asked.

    Args:
        nodule: one entry of "nodules".
        told: notes that the reader gets elsewhere, once for all nodules.
    """
    prior = nodule.get("prior")
    if prior is None:
        return []
    name = f"{nodule['id']} ({_size(nodule['size'])})"
    if prior["status"] not in (PAIRED, GIVEN):
        first = f"{name}: {status_text(prior['status'])}"
        return [first, *(f"  {text}" for text in _category(nodule))]
    was = f"{prior['nodule_id']} of the prior CT" if prior["nodule_id"] else "the prior given"
    lines = [f"{name}, {was}: {prior['trend'] or NO_TREND}"]
    for title, key, unit, digits in (
        ("volume", "volume_mm3", "mm3", 0),
        ("mean diameter", "mean_diameter_mm", "mm", 1),
    ):
        if key in (prior["change"] or {}):
            lines.append(f"  {title} {_change(prior['change'][key], unit, digits)}")
    lines += [f"  {text}" for text in (*_judged(prior, told), *_category(nodule))]
    return lines


def _category(nodule: Json) -> list[str]:
    """Return the category of a follow-up screening, or why there is none."""
    told = nodule["guidelines"]
    if told.get("context") is None:
        return []
    for key, title in (("lung_rads", "Lung-RADS"), ("fleischner", "Fleischner")):
        found = told.get(key)
        if found:
            low, high = found["range"]
            span = "" if low == high else f" (possible: {low} to {high})"
            return [f"{title} {found['category']}{span}: {found['management']}"]
    return [f"no category: {'; '.join(told['assumptions'])}"]


def _judged(prior: Json, known: Sequence[str]) -> list[str]:
    found = []
    doubling = prior["volume_doubling_time"]
    if doubling:
        found.append(f"volume doubling time {doubling_text(doubling)}")
    for title, key in _SYSTEMS:
        told = prior[key]
        found += [f"{title}: {told['note']}"] if told else []
        part = told and told.get("solid_part")
        found += [f"{title}: {part['note']}"] if part else []
    return [*found, *(note for note in prior["notes"] if note not in known)]


_SYSTEMS = (("Lung-RADS", "lung_rads"), ("BTS", "bts"))


def status_text(status: str) -> str:
    """Return what the status of a nodule without a partner means."""
    return _OF_STATUS.get(status, _UNCLEAR)


def _change(change: Json, unit: str, digits: int) -> str:
    text = (
        f"{change['prior']:.{digits}f} to {change['current']:.{digits}f} {unit}, "
        f"{change['percent']:+.0f}%"
    )
    interval = change["percent_interval_90"]
    if interval:
        text += f" (90% interval {interval[0]:+.0f}% to {interval[1]:+.0f}%)"
    return text


def doubling_text(doubling: Json) -> str:
    """Return the volume doubling time with its interval."""
    text = f"{doubling['days']:.0f} days"
    if doubling["interval_90_days"]:
        low, high = doubling["interval_90_days"]
        end = f"to {high:.0f}" if high else "or longer, up to no growth at all"
        text += f" (90% interval {low:.0f} {end})"
    return text + ("; fast (BTS: at most 400 days)" if doubling["fast"] else "")


def _size(size: dict[str, Any]) -> str:
    mm, mm3 = size["mean_diameter_mm"], size["volume_mm3"]
    parts = [f"{mm:.1f} mm"] if mm is not None else []
    parts += [f"{mm3:.0f} mm3"] if mm3 is not None else []
    return ", ".join(parts) or "not measured"


def _span(document: Json) -> str:
    before, now = (day or "without a date" for day in document["dates"])
    days = document["interval_days"]
    span = f", {days} days" if days is not None else ""
    return f"Prior CT {before}, current CT {now}{span}"
