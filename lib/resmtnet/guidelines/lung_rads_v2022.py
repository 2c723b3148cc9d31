"""Lung-RADS v2022: the category of one nodule of a screening CT.

References:
    American College of Radiology, Lung-RADS v2022; Christensen et al., Chest 165:738, 2024.
"""

from __future__ import annotations

from resmtnet.guidelines.category import TEXTURES, Category, check_allowed, size_band

SOURCE = "ACR Lung-RADS v2022"
COMPARISONS = ("baseline", "new", "growing", "slowly growing", "stable")

MANAGEMENT = {
    "1": "screening low-dose CT in 12 months",
    "2": "screening low-dose CT in 12 months",
    "3": "low-dose CT in 6 months",
    "4A": "low-dose CT in 3 months; PET/CT may be considered if solid nodule or part >= 8 mm",
    "4B": "diagnostic CT, PET/CT (solid nodule or part >= 8 mm), tissue sampling, or referral",
}
ORDER = tuple(MANAGEMENT)
"""The categories, least serious first."""

_CUTS_MM3 = {4: 34, 6: 113, 8: 268, 15: 1767, 30: 14137}
_STEP_DOWN = {"1": "1", "2": "2", "3": "2", "4A": "3"}


def more_serious(category: str, other: str) -> bool:
    """Tell whether a category is more serious than another one; False for one that is unknown.

    >>> more_serious("4A", "3"), more_serious("2", "4X")
    (True, False)
    """
    return category in ORDER and other in ORDER and ORDER.index(category) > ORDER.index(other)


def lung_rads(
    texture: str,
    mean_diameter_mm: float | None,
    solid_component_mm: float | None = None,
    *,
    volume_mm3: float | None = None,
    comparison: str = "baseline",
    prior_category: str | None = None,
    benign_calcification: bool = False,
) -> Category | None:
    """Return the Lung-RADS v2022 category of one nodule of a screening CT.

    Not covered, since they need the reader: 0, 4X, juxtapleural, airway and cystic nodules.

    Args:
        texture: "non-solid", "part-solid" or "solid".
        mean_diameter_mm: mean of long and short axis; compared to one decimal.
        solid_component_mm: mean diameter of the solid part of a part-solid nodule.
        volume_mm3: of the whole nodule, used instead of the diameter if given (whole mm3).
        comparison: "baseline", "new", "growing" (> 1.5 mm in 12 months), "slowly growing" (over
            several examinations) or "stable" (at the follow-up that was due).
        prior_category: of a stable nodule, which steps it down.
        benign_calcification: complete, central, popcorn or ringed calcification, or fat.

    Returns:
        The category, or None if an input that the table needs is missing.

    >>> lung_rads("solid", 7.95).name, lung_rads("part-solid", 12, 7, comparison="new").name
    ('4A', '4B')
    """
    check_allowed("texture", texture, TEXTURES)
    check_allowed("comparison", comparison, COMPARISONS)
    total = size_band(mean_diameter_mm, volume_mm3, 1, _CUTS_MM3)
    if benign_calcification:
        name: str | None = "1"
    elif total is None:
        name = None
    elif texture == "non-solid":
        name = "3" if total >= 30 and comparison not in ("stable", "slowly growing") else "2"
    elif comparison == "slowly growing":
        name = "4B"
    elif comparison == "stable":
        name = _STEP_DOWN.get(prior_category or "")
    elif texture == "solid":
        name = _solid(total, comparison)
    else:
        solid = 0 if solid_component_mm == 0 else size_band(solid_component_mm, None, 1, _CUTS_MM3)
        name = _part_solid(total, solid, comparison)
    return Category(name, MANAGEMENT[name], SOURCE) if name else None


def _solid(total: int, comparison: str) -> str:
    if comparison == "baseline":
        return {0: "2", 4: "2", 6: "3", 8: "4A"}.get(total, "4B")
    if comparison == "new":
        return {0: "2", 4: "3", 6: "4A"}.get(total, "4B")
    return "4A" if total < 8 else "4B"


def _part_solid(total: int, solid: int | None, comparison: str) -> str | None:
    """Return the category; a new nodule < 6 mm with a solid part >= 4 mm takes the graver line."""
    if comparison == "baseline" and total < 6:
        return "2"
    if solid is None:
        return None
    if comparison == "baseline":
        return "3" if solid < 6 else "4A" if solid < 8 else "4B"
    if solid >= 4:
        return "4B"
    return "3" if comparison == "new" and total < 6 else "4A"
