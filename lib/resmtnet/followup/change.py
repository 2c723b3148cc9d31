"""How a nodule has changed between two measurements, and whether that is more than chance.

References:
    Volume: Callister et al., Thorax 70 Suppl 2, 2015 (British Thoracic Society, BTS).
    Diameter: American College of Radiology, Lung-RADS v2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from resmtnet.findings import Interval, Size, finite
from resmtnet.guidelines import volume_doubling_time_days
from resmtnet.types import Json

SIZES = ("volume_mm3", "mean_diameter_mm", "long_axis_mm")

REPEATABILITY: Mapping[str, float] = {
    "volume_mm3": 0.23,
    "mean_diameter_mm": 0.26,
    "long_axis_mm": 0.267,
}
"""Half width of the 90% interval of a log ratio, as a share of the root of the sum of the squares
of the half widths of both log sizes. Those are about readers, whose habit is the same at both
times, so the share is below 1. Fitted on 60 phantom pairs of known growth by
`benchmarks/follow_up.py` (volume 0.222); that of the volume is the larger one which 40 real nodules
made over ask for. docs/follow-up.md has the figures."""

WIDENED: Mapping[str, float] = {
    "volume_mm3": 1.0,
    "mean_diameter_mm": 0.45,
    "long_axis_mm": 0.55,
}
"""Share of `widening` that each size gets; a diameter is of one slice, which may be another one."""

BTS_GROWTH = 1.25
"""Ratio of volumes from which the BTS speaks of growth."""
BTS_FAST_DAYS = 400.0
"""A volume doubling time up to this is fast (BTS)."""
LUNG_RADS_GROWTH_MM = 1.5
LUNG_RADS_DAYS = 366
"""12 months, within which Lung-RADS defines growth."""

GROWING, MAYBE_GROWING = "growing", "possibly growing"
STABLE = "stable"
MAYBE_SMALLER, SMALLER = "possibly smaller", "smaller"


@dataclass(frozen=True)
class Change:
    """One size before and now."""

    prior: float
    current: float
    ratio_interval_90: Interval | None = None
    """Of current / prior; None where one of them has no interval."""

    @property
    def ratio(self) -> float:
        """Current size as a multiple of that before."""
        return self.current / self.prior

    def to_json(self) -> Json:
        """Return one entry of "change"."""
        interval = self.ratio_interval_90
        return {
            "prior": finite(self.prior),
            "current": finite(self.current),
            "difference": finite(self.current - self.prior),
            "difference_interval_90": interval
            and [finite(self.prior * (end - 1)) for end in interval],
            "percent": finite(100 * (self.ratio - 1), 2),
            "percent_interval_90": interval and [finite(100 * (end - 1), 2) for end in interval],
        }


def change_of(name: str, prior: Size, current: Size, widening: float = 0.0) -> Change | None:
    """Return the change of a size; None where one of the two was not measured.

    Args:
        name: one of SIZES.
        prior: of the nodule before.
        current: of the nodule now.
        widening: half width of the log of a volume's ratio that comes on top, since both CTs were
            made in another way; see `acquisition.widening`.

    >>> before = Size(volume_mm3=100.0, interval_90={"volume_mm3": (80.0, 125.0)})
    >>> now = Size(volume_mm3=160.0, interval_90={"volume_mm3": (128.0, 200.0)})
    >>> change_of("volume_mm3", before, now).ratio
    1.6
    """
    was, now = getattr(prior, name), getattr(current, name)
    if not was or not now or was <= 0 or now <= 0:
        return None
    ends = prior.interval_90.get(name), current.interval_90.get(name)
    if ends[0] is None or ends[1] is None:
        return Change(was, now)
    half = REPEATABILITY[name] * math.hypot(
        *(_half_width(interval) for interval in ends if interval)
    )
    half = math.hypot(half, widening * WIDENED[name])
    ratio = now / was
    return Change(was, now, (ratio * math.exp(-half), ratio * math.exp(half)))


def _half_width(interval: Interval) -> float:
    """Return the half width of the log of a size."""
    low, high = interval
    return math.log(max(high, 1e-9) / max(low, 1e-9)) / 2


def trend(volume: Change | None) -> str | None:
    """Return what has become of a nodule, by its volume: GROWING ... SMALLER; None without one.

    Less than 25% either way is stable (BTS). From 25% on it is growing, or smaller, if the 90%
    interval of the change does not hold "no change", and else possibly so.

    >>> trend(Change(100.0, 160.0, (1.2, 2.1))), trend(Change(100.0, 130.0, (0.9, 1.8)))
    ('growing', 'possibly growing')
    """
    if volume is None:
        return None
    low, high = volume.ratio_interval_90 or (0.0, math.inf)
    if volume.ratio >= BTS_GROWTH:
        return GROWING if low > 1 else MAYBE_GROWING
    if volume.ratio <= 1 / BTS_GROWTH:
        return SMALLER if high < 1 else MAYBE_SMALLER
    return STABLE


def doubling_time(volume: Change | None, days: int | None) -> Json | None:
    """Return the volume doubling time; None below 25% growth, and without two different dates.

    Args:
        volume: the change.
        days: between the CTs.

    >>> told = doubling_time(Change(100.0, 200.0, (0.9, 4.0)), 90)
    >>> told["days"], told["interval_90_days"], told["fast"]
    (90.0, [45.0, None], True)
    """
    if volume is None or not days or days <= 0:
        return None
    told = volume_doubling_time_days(volume.prior, volume.current, days)
    if told is None:
        return None
    low, high = volume.ratio_interval_90 or (math.nan, math.nan)
    ends = [days * math.log(2) / math.log(end) if end > 1 else None for end in (high, low)]
    return {
        "days": finite(told, 1),
        "interval_90_days": [finite(end, 1) for end in ends] if volume.ratio_interval_90 else None,
        "fast": told <= BTS_FAST_DAYS,
    }


def bts(volume: Change | None) -> Json:
    """Return what the BTS's 25% says of a change in volume."""
    if volume is None:
        return {"growth": None, "note": "a volume is missing"}
    percent = 100 * (volume.ratio - 1)
    word = "at least" if volume.ratio >= BTS_GROWTH else "less than"
    return {
        "growth": volume.ratio >= BTS_GROWTH,
        "note": f"volume {percent:+.0f}%: {word} 25% growth",
    }


def lung_rads_growth(diameter: Change | None, days: int | None) -> Json:
    """Return what Lung-RADS v2022 says of a change in mean diameter.

    Growth is defined within 12 months alone: over any other span, only change and span are told.

    >>> lung_rads_growth(Change(6.0, 8.0), 180)["growth"]
    True
    >>> lung_rads_growth(Change(6.0, 8.0), 700)["growth"] is None
    True
    """
    if diameter is None:
        return {"growth": None, "note": "a mean diameter is missing"}
    mm = round(diameter.current, 1) - round(diameter.prior, 1)
    told = f"mean diameter {mm:+.1f} mm"
    if days is None:
        return {"growth": None, "note": f"{told}; no verdict: the dates of both CTs are needed"}
    if not 0 < days <= LUNG_RADS_DAYS:
        note = f"{told} in {days} days; no verdict: growth is defined within 12 months"
        return {"growth": None, "note": note}
    growth = round(mm, 1) > LUNG_RADS_GROWTH_MM
    word = "more than" if growth else "not more than"
    return {"growth": growth, "note": f"{told} in {days} days: {word} 1.5 mm within 12 months"}
