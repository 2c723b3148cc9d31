"""Numbers that guidelines ask for: the Brock risk, volume doubling time, the BTS threshold.

References:
    McWilliams et al., NEJM 369:910, 2013 (Brock, full model with spiculation).
    Callister et al., Thorax 70 Suppl 2, 2015 (British Thoracic Society).
"""

from __future__ import annotations

import math

from resmtnet.errors import InputError
from resmtnet.guidelines.category import TEXTURES, check_allowed, known


def brock_probability(
    *,
    age_years: float,
    female: bool,
    family_history: bool,
    emphysema: bool,
    maximum_diameter_mm: float,
    upper_lobe: bool,
    texture: str,
    nodule_count: int,
    spiculated: bool,
) -> float:
    """Return the Brock (PanCan) probability of cancer of a nodule at a first screening CT.

    Every input but size, texture and spiculation is clinical and comes from the user.

    Args:
        age_years: age of the patient.
        female: sex of the patient.
        family_history: of lung cancer.
        emphysema: seen on CT.
        maximum_diameter_mm: greatest diameter of the nodule, not the mean.
        upper_lobe: whether the nodule lies in an upper lobe.
        texture: "non-solid", "part-solid" or "solid".
        nodule_count: nodules on this CT.
        spiculated: whether the nodule is.

    >>> round(brock_probability(age_years=62, female=False, family_history=False, emphysema=False,
    ...     maximum_diameter_mm=10, upper_lobe=False, texture="solid", nodule_count=1,
    ...     spiculated=False), 3)
    0.032
    """
    check_allowed("texture", texture, TEXTURES)
    if not known(maximum_diameter_mm):
        raise InputError(f"diameter {maximum_diameter_mm} mm: must be finite and above 0")
    logit = (
        0.2761
        + 0.0287 * age_years
        + 0.6011 * female
        + 0.2961 * family_history
        + 0.2953 * emphysema
        - 5.3854 * (maximum_diameter_mm / 10) ** -0.5
        + 0.6581 * upper_lobe
        + {"part-solid": 0.377, "non-solid": -0.1276, "solid": 0.0}[texture]
        - 0.0824 * nodule_count
        + 0.7729 * spiculated
    )
    return 1 / (1 + math.exp(-logit))


def volume_doubling_time_days(
    earlier_mm3: float, later_mm3: float, interval_days: float
) -> float | None:
    """Return the volume doubling time, or None for a change < 25% (BTS: stable) or a shrinkage.

    >>> volume_doubling_time_days(100, 200, 90), volume_doubling_time_days(100, 124, 90)
    (90.0, None)
    """
    if not (known(earlier_mm3) and known(later_mm3) and known(interval_days)):
        raise InputError(
            f"volumes {earlier_mm3}, {later_mm3} mm3 and interval {interval_days} d must be above 0"
        )
    ratio = later_mm3 / earlier_mm3
    return interval_days * math.log(2) / math.log(ratio) if ratio >= 1.25 else None


def bts_needs_follow_up(maximum_diameter_mm: float, volume_mm3: float | None = None) -> bool:
    """Tell whether the BTS asks for follow-up: >= 80 mm3, without a volume >= 5 mm.

    >>> bts_needs_follow_up(5.2, 75.0), bts_needs_follow_up(5.2)
    (False, True)
    """
    return maximum_diameter_mm >= 5 if volume_mm3 is None else volume_mm3 >= 80
