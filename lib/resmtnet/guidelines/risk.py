"""Numbers that guidelines ask for: the Brock risk, volume doubling time, the BTS threshold.

References:
    McWilliams et al., NEJM 369:910, 2013 (Brock; the full models without and with spiculation).
    Callister et al., Thorax 70 Suppl 2, 2015 (British Thoracic Society).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from resmtnet.errors import InputError
from resmtnet.guidelines.category import TEXTURES, check_allowed, known


@dataclass(frozen=True)
class _Brock:
    """Coefficients of one Brock model; it is centred at 62 years, 4 mm and 4 nodules."""

    constant: float
    age: float
    female: float
    family_history: float
    emphysema: float
    size: float
    part_solid: float
    non_solid: float
    upper_lobe: float
    count: float
    spiculation: float


_WITHOUT_SPICULATION = _Brock(
    -6.8071, 0.0321, 0.5635, 0.3013, 0.3462, -5.6693, 0.3395, -0.3055, 0.7116, -0.0803, 0.0
)
_WITH_SPICULATION = _Brock(
    -6.7892, 0.0287, 0.6011, 0.2961, 0.2953, -5.3854, 0.377, -0.1276, 0.6581, -0.0824, 0.7729
)


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
    spiculated: bool | None,
) -> float:
    """Return the Brock (PanCan) probability of cancer of a nodule at a first screening CT.

    Every input but size and texture is clinical and comes from the user.

    Args:
        age_years: age of the patient.
        female: sex of the patient.
        family_history: of lung cancer.
        emphysema: seen on CT.
        maximum_diameter_mm: greatest diameter of the nodule, not the mean.
        upper_lobe: whether the nodule lies in an upper lobe.
        texture: "non-solid", "part-solid" or "solid".
        nodule_count: nodules on this CT.
        spiculated: whether the nodule is; None: by the model without spiculation.

    >>> round(brock_probability(age_years=62, female=False, family_history=False, emphysema=False,
    ...     maximum_diameter_mm=10, upper_lobe=False, texture="solid", nodule_count=1,
    ...     spiculated=False), 3)
    0.032
    """
    check_allowed("texture", texture, TEXTURES)
    if not known(maximum_diameter_mm):
        raise InputError(f"diameter {maximum_diameter_mm} mm: must be finite and above 0")
    model = _WITHOUT_SPICULATION if spiculated is None else _WITH_SPICULATION
    logit = (
        model.constant
        + model.age * (age_years - 62)
        + model.female * female
        + model.family_history * family_history
        + model.emphysema * emphysema
        + model.size * ((maximum_diameter_mm / 10) ** -0.5 - 0.4**-0.5)
        + model.upper_lobe * upper_lobe
        + {"part-solid": model.part_solid, "non-solid": model.non_solid, "solid": 0.0}[texture]
        + model.count * (nodule_count - 4)
        + model.spiculation * bool(spiculated)
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
