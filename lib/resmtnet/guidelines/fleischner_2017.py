"""Fleischner Society 2017: size class and recommendation for an incidental nodule.

References:
    MacMahon et al., Radiology 284:228, 2017; measurement: Bankier et al., Radiology 285:584, 2017.
"""

from __future__ import annotations

from resmtnet.guidelines.category import (
    TEXTURES,
    Category,
    check_allowed,
    known,
    round_half_up,
)

SOURCE = "Fleischner Society 2017, doi:10.1148/radiol.2017161659"
RISKS = ("low", "high")

_CUTS_MM3 = {6: 100, 8: 250}
_LATER = "CT at 18-24 months"
_NONE = "no routine follow-up"
_PERSISTS = "CT at {} months to confirm persistence, then {}"
_SINGLE = {
    "solid < 6 mm": (_NONE, "optional CT at 12 months"),
    "solid 6-8 mm": (
        f"CT at 6-12 months, then consider {_LATER}",
        f"CT at 6-12 months, then {_LATER}",
    ),
    "solid > 8 mm": ("consider CT at 3 months, PET/CT or tissue sampling",) * 2,
    "non-solid < 6 mm": (_NONE,) * 2,
    "non-solid >= 6 mm": (_PERSISTS.format("6-12", "every 2 years until 5 years"),) * 2,
    "part-solid < 6 mm": (_NONE,) * 2,
    "part-solid >= 6 mm": (
        _PERSISTS.format("3-6", "yearly for 5 years while the solid part stays < 6 mm"),
    )
    * 2,
    "part-solid >= 6 mm, solid part >= 6 mm": (
        "CT at 3-6 months to confirm persistence; a solid part that persists is highly suspicious",
    )
    * 2,
    "part-solid >= 6 mm, solid part > 8 mm": (
        "consider PET/CT, tissue sampling or resection; CT at 3-6 months if it may be transient",
    )
    * 2,
}
_SOLID_MULTIPLE = (f"CT at 3-6 months, then consider {_LATER}", f"CT at 3-6 months, then {_LATER}")
_SMALL_MULTIPLE = ("CT at 3-6 months; if stable, consider CT at 2 and 4 years",) * 2
_LARGE_MULTIPLE = ("CT at 3-6 months, then by the most suspicious nodule",) * 2
_MULTIPLE = {
    "solid < 6 mm": _SINGLE["solid < 6 mm"],
    "solid 6-8 mm": _SOLID_MULTIPLE,
    "solid > 8 mm": _SOLID_MULTIPLE,
    "non-solid < 6 mm": _SMALL_MULTIPLE,
    "non-solid >= 6 mm": _LARGE_MULTIPLE,
    "part-solid < 6 mm": _SMALL_MULTIPLE,
    "part-solid >= 6 mm": _LARGE_MULTIPLE,
    "part-solid >= 6 mm, solid part >= 6 mm": _LARGE_MULTIPLE,
    "part-solid >= 6 mm, solid part > 8 mm": _LARGE_MULTIPLE,
}
ORDER = (
    "non-solid < 6 mm",
    "part-solid < 6 mm",
    "solid < 6 mm",
    "non-solid >= 6 mm",
    "solid 6-8 mm",
    "part-solid >= 6 mm",
    "part-solid >= 6 mm, solid part >= 6 mm",
    "solid > 8 mm",
    "part-solid >= 6 mm, solid part > 8 mm",
)
"""The categories, least urgent management first."""


def fleischner(
    texture: str,
    mean_diameter_mm: float | None,
    solid_component_mm: float | None = None,
    *,
    volume_mm3: float | None = None,
    risk: str | None = None,
    multiple: bool = False,
) -> Category | None:
    """Return the Fleischner 2017 size class and recommendation for an incidental nodule.

    Args:
        texture: "non-solid", "part-solid" or "solid".
        mean_diameter_mm: mean of long and short axis in one plane; rounded to whole mm.
        solid_component_mm: mean diameter of the solid part of a part-solid nodule; None if unknown:
            the recommendation then says what holds while it stays below 6 mm.
        volume_mm3: used instead of the diameter if given.
        risk: "low" or "high"; None states both recommendations.
        multiple: whether the patient has several nodules; this one is the most suspicious.

    >>> fleischner("solid", 8.5, risk="low").name
    'solid > 8 mm'
    """
    check_allowed("texture", texture, TEXTURES)
    if risk is not None:
        check_allowed("risk", risk, RISKS)
    if volume_mm3 is not None and known(volume_mm3):
        small, large = volume_mm3 < _CUTS_MM3[6], volume_mm3 > _CUTS_MM3[8]
    elif mean_diameter_mm is not None and known(mean_diameter_mm):
        whole_mm = round_half_up(mean_diameter_mm, 0)
        small, large = whole_mm < 6, whole_mm > 8
    else:
        return None
    upper = ">= 6 mm" if texture != "solid" else "> 8 mm" if large else "6-8 mm"
    name = f"{texture} {'< 6 mm' if small else upper}"
    if name == "part-solid >= 6 mm":
        name += _solid_part(solid_component_mm)
    low, high = (_MULTIPLE if multiple else _SINGLE)[name]
    both = low if low == high else f"low risk: {low}; high risk: {high}"
    management = {"low": low, "high": high}.get(risk or "", both)
    return Category(name, management, SOURCE)


def _solid_part(mean_diameter_mm: float | None) -> str:
    """Return what the solid part adds to the name of a part-solid nodule of 6 mm or more."""
    if mean_diameter_mm is None or not known(mean_diameter_mm):
        return ""
    whole_mm = round_half_up(mean_diameter_mm, 0)
    return "" if whole_mm < 6 else f", solid part {'> 8' if whole_mm > 8 else '>= 6'} mm"
