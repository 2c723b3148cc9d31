"""The guideline category of a follow-up screening: by growth, else stepped down, else by size.

References:
    American College of Radiology, Lung-RADS v2022, with its notes on growth and size thresholds.
"""

from __future__ import annotations

from dataclasses import replace

from resmtnet.characteristics import TEXTURE
from resmtnet.findings import Finding, Size
from resmtnet.guidelines import NO_COMPARISON, assess, more_serious
from resmtnet.types import Json

BASELINE = "screening_baseline"
HIGHER_SIZE = (
    "no growth by definition, but of a higher size category than before: category by its size"
)


def comparison_of(growth: Json | None, *, new: bool) -> str | None:
    """Return what guidelines.lung_rads calls the comparison; None where it cannot be told.

    Args:
        growth: the "lung_rads" entry of a prior block; None without a size before.
        new: the nodule was not there before.
    """
    if new:
        return "new"
    if growth is None or growth["growth"] is None:
        return None
    return "growing" if growth["growth"] else "stable"


def follow_up_guidelines(
    finding: Finding,
    comparison: str | None,
    prior_category: str | None,
    before_first: str | None,
    growth: Json | None,
) -> Json:
    """Return the guideline block, with the category that only a comparison makes possible.

    Args:
        finding: of the current CT.
        comparison: what `comparison_of` says.
        prior_category: Lung-RADS category before, from which a stable nodule steps down.
        before_first: that of the nodule as if the prior were a first screening CT: a stable
            nodule that has reached a higher one is judged by its size.
        growth: the "lung_rads" entry of its prior block.
    """
    told = finding.guidelines
    if NO_COMPARISON not in told.get("assumptions", ()):
        return told
    if comparison is None:
        why = [growth["note"]] if growth else []
        part = growth and growth["solid_part"]
        why += [part["note"]] if part else []
        return {**told, "assumptions": [*told["assumptions"], *why]}
    part = growth["solid_part"] if growth else None
    if part and part["growth"]:  # whatever the texture is named
        finding = _part_solid(finding)
    block = _assessed(finding, finding.size, told["context"], comparison, prior_category)
    if comparison == "growing" and growth is not None:
        block["assumptions"] += _what_grows(growth)
    if comparison != "stable":
        return block
    first = _assessed(finding, finding.size, BASELINE)["lung_rads"]
    if first and before_first and more_serious(first["category"], before_first):
        stepped = block["lung_rads"]
        if stepped is None or not more_serious(stepped["category"], first["category"]):
            stepped = first
        assumptions = block["assumptions"] if block["lung_rads"] else []
        return {**block, "lung_rads": stepped, "assumptions": [*assumptions, HIGHER_SIZE]}
    if prior_category:
        block["assumptions"].append(f"category of the prior CT: {prior_category}")
    return block


def first_category(finding: Finding, size: Size) -> str | None:
    """Return the Lung-RADS category of a nodule of this size at a first screening CT.

    Args:
        finding: says of which texture it is.
        size: of the nodule then.

    Returns:
        None where there is none, and where the finding tells no texture.
    """
    if TEXTURE.name not in finding.characteristics:
        return None
    block = _assessed(finding, size, BASELINE)["lung_rads"]
    return block and str(block["category"])


def _part_solid(finding: Finding) -> Finding:
    texture = finding.characteristics[TEXTURE.name]
    named = replace(texture, name="part-solid", probabilities={"part-solid": 1.0})
    return replace(finding, characteristics={**finding.characteristics, TEXTURE.name: named})


def _assessed(
    finding: Finding,
    size: Size,
    context: str,
    comparison: str | None = None,
    prior_category: str | None = None,
) -> Json:
    return assess(
        context,
        finding.characteristics[TEXTURE.name].probabilities,
        size.mean_diameter_mm,
        size.interval_90.get("mean_diameter_mm"),
        size.solid_component_mm,
        size.interval_90.get("solid_component_mm"),
        comparison=comparison,
        prior_category=prior_category,
    ).to_json()


def _what_grows(growth: Json) -> list[str]:
    """Return what of a part-solid nodule has grown; nothing where no solid part is judged."""
    part = growth["solid_part"]
    if part is None:
        return []
    if part["growth"]:
        return [f"its solid part is {'new' if part['new'] else 'growing'}"]
    return ["the whole nodule has grown, its solid part has not: the table names the solid part"]
