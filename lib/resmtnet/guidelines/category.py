"""What the guidelines share: the category record, size classes, allowed names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from resmtnet.errors import ConfigError

TEXTURES = ("non-solid", "part-solid", "solid")


@dataclass(frozen=True)
class Category:
    """What one guideline says of one nodule (never of the whole examination)."""

    name: str
    """"4A" (Lung-RADS), "solid 6-8 mm" (Fleischner: texture and size class)."""
    management: str
    """The guideline's recommendation in one line."""
    source: str


def check_allowed(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is not in `allowed`, listing those that are."""
    if value not in allowed:
        raise ConfigError(f"{name} {value!r} is unknown; allowed: {', '.join(allowed)}")


def round_half_up(value: float, digits: int) -> float:
    """Round as a reader does, 0.5 upwards, on the number as it is printed.

    >>> round_half_up(5.95, 1), round_half_up(5.949, 1), round_half_up(8.5, 0)
    (6.0, 5.9, 9.0)
    """
    step = Decimal(1).scaleb(-digits)
    return float(Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP))


def known(value: float | None) -> bool:
    """Tell whether a size is there and can be one: finite and above 0."""
    return value is not None and math.isfinite(value) and value > 0


def size_band(
    diameter_mm: float | None, volume_mm3: float | None, digits: int, cuts: Mapping[int, int]
) -> int | None:
    """Return the greatest cut (mm) that the size reaches, 0 below all; the volume goes first."""
    if volume_mm3 is not None and known(volume_mm3):
        return max((mm for mm, mm3 in cuts.items() if round(volume_mm3) >= mm3), default=0)
    if diameter_mm is not None and known(diameter_mm):
        return max((mm for mm in cuts if round_half_up(diameter_mm, digits) >= mm), default=0)
    return None
