"""The figures of a nodule in words, as the page shows them; no element of the page is made here."""

from __future__ import annotations

from collections.abc import Iterator

from resmtnet.findings import Finding, Interval
from resmtnet.page.case import CaseNodule
from resmtnet.readings.record import Reading
from resmtnet.readings.reply import summary
from resmtnet.types import Json

UNCONFIRMED = "candidate, unconfirmed"

_SIZES = (
    ("Long axis", "long_axis_mm", "mm", 1),
    ("Short axis", "short_axis_mm", "mm", 1),
    ("Mean diameter", "mean_diameter_mm", "mm", 1),
    ("Volume", "volume_mm3", "mm³", 0),
    ("Solid component", "solid_component_mm", "mm", 1),
)
_CONTEXTS = {
    "screening_baseline": "baseline screening",
    "screening_followup": "screening follow-up",
    "incidental": "incidental finding",
}


def percent(share: float) -> str:
    """Return a probability as it is shown.

    >>> percent(0.876), percent(0.9999)
    ('88%', '>99%')
    """
    if share > 0.99:
        return ">99%"
    return "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def interval(bounds: Interval | None, digits: int) -> str:
    """Return a 90% interval; "" without one.

    >>> interval((3.04, 4.5), 1)
    '3.0 to 4.5'
    """
    if bounds is None or None in bounds:
        return ""
    return f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def class_words(finding: Finding) -> str:
    """Return class and its probability; of an indeterminate nodule that of malignant."""
    malignant = finding.probability_malignant
    if finding.class_name == "indeterminate":
        return f"indeterminate (malignant {percent(malignant)})"
    if finding.class_name not in ("benign", "malignant"):
        return f"{finding.class_name} (malignant {percent(malignant)})"
    share = malignant if finding.class_name == "malignant" else 1 - malignant
    return f"{finding.class_name} {percent(share)}"


def size_words(finding: Finding) -> str:
    """Return the size in short."""
    size = finding.size
    if size.long_axis_mm is not None and size.short_axis_mm is not None:
        return f"{size.long_axis_mm:.1f} × {size.short_axis_mm:.1f} mm"
    found = size.equivalent_diameter_mm
    return "not measured" if found is None else f"{found:.1f} mm"


def sizes(finding: Finding) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and interval of each size that was measured."""
    for title, name, unit, digits in _SIZES:
        value = getattr(finding.size, name)
        if value is not None:
            between = interval(finding.size.interval_90.get(name), digits)
            yield title, f"{value:.{digits}f} {unit}", between


def characteristics(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield name and value of each characteristic."""
    for name, found in finding.characteristics.items():
        share = max(found.probabilities.values(), default=0.0)
        yield name.replace("_", " ").capitalize(), f"{found.name} ({percent(share)})"


def guidelines(finding: Finding) -> Iterator[tuple[str, str, str]]:
    """Yield system, category with its range, and what it recommends."""
    for title, key in (("Lung-RADS", "lung_rads"), ("Fleischner", "fleischner")):
        found: Json | None = finding.guidelines.get(key)
        if found:
            between = [name for name in found.get("range", ()) if name]
            spread = f" ({between[0]} to {between[-1]})" if len(set(between)) > 1 else ""
            yield title, f"{found['category']}{spread}", str(found.get("management") or "")


def guideline_note(finding: Finding) -> str:
    """Return for which context the guidelines were read, or why none was."""
    context = finding.guidelines.get("context")
    if not context:
        return "No guideline: the server was started without --conf context=..."
    assumed = "; ".join(str(one) for one in finding.guidelines.get("assumptions") or ())
    named = _CONTEXTS.get(str(context), str(context))
    return f"For {named}" + (f"; assumed: {assumed}" if assumed else "")


def reading_words(reading: Reading) -> str:
    """Return what a reader says, without the name of the nodule that it answers."""
    told = summary(reading)
    nodule = reading.answered.finding.get("id") if reading.answered else None
    told = told.removeprefix(f"{nodule}: ") if nodule else told
    return told + (" (accepted with others at once)" if reading.acceptance == "bulk" else "")


def status_words(nodule: CaseNodule) -> str:
    """Return where a nodule stands in the list."""
    said = nodule.said
    if said is not None:
        if said.class_name == "not_a_nodule":
            return "you: not a nodule"
        return f"you: {said.class_name or 'corrected'}"
    if nodule.others:
        names = ", ".join(dict.fromkeys(reading.reader for reading in nodule.others))
        return f"read by {names}"
    if not nodule.is_candidate:
        return "not read yet"
    share = nodule.finding.nodule_probability if nodule.finding else None
    return UNCONFIRMED if share is None else f"{UNCONFIRMED}; is a nodule: {percent(share)}"
