"""How the solid part of a nodule has changed, which Lung-RADS judges beside the whole nodule.

References:
    American College of Radiology, Lung-RADS v2022: a part-solid nodule with a new or growing solid
    component is 4A below 4 mm of it, else 4B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from resmtnet.characteristics import TEXTURE
from resmtnet.findings import Finding, Interval, Size, finite
from resmtnet.followup.change import LUNG_RADS_DAYS, LUNG_RADS_GROWTH_MM
from resmtnet.types import Json

NAME = "solid_component_mm"
MISSED_MM = 4.5
"""Solid parts up to this are missed at times: where none is measured, there may be one of it."""
SHARE = 1.2
"""Half width of the 90% interval of a difference, as a share of the root of the sum of the squares
of the half widths of both solid parts. Fitted on phantoms whose solid part grows by a known length,
by `benchmarks/follow_up_solid.py`."""


@dataclass(frozen=True)
class SolidChange:
    """The mean diameter of the solid part before and now, mm; 0 where there is none."""

    prior_mm: float
    current_mm: float
    difference_interval_90: Interval | None = None
    """Of current - prior, mm; None where one of them has no interval."""
    textures: tuple[str, str] | None = None
    """Before and now, where the nodule is named solid at one of both times alone: all of it counts
    as its solid part then, so that both are not of one thing."""

    @property
    def difference_mm(self) -> float:
        """Difference of both as they are printed, to one decimal."""
        return round(round(self.current_mm, 1) - round(self.prior_mm, 1), 1)

    @property
    def is_new(self) -> bool:
        """Whether there was no solid part before."""
        return self.prior_mm == 0 < self.current_mm

    def to_json(self) -> Json:
        """Return its entry of "change"; percentages are null where there was no solid part."""
        ends, prior = self.difference_interval_90, self.prior_mm
        shares = ends and [finite(100 * end / prior, 2) for end in ends] if prior else None
        return {
            "prior": finite(prior),
            "current": finite(self.current_mm),
            "difference": finite(self.current_mm - prior),
            "difference_interval_90": ends and [finite(end) for end in ends],
            "percent": finite(100 * (self.current_mm / prior - 1), 2) if prior else None,
            "percent_interval_90": shares,
        }


def texture_of(finding: Finding) -> str | None:
    """Return the named texture of a nodule; None of a model that tells none."""
    told = finding.characteristics.get(TEXTURE.name)
    return None if told is None else told.name


def solid_change(
    prior: Size, current: Size, prior_texture: str | None, texture: str | None
) -> SolidChange | None:
    """Return the change of the solid part, or None where none is to be judged.

    A nodule that is solid at both times has no solid part of its own, and one without any at both
    times has none to judge. All others are judged: what is measured counts, since the model names
    nodules with a small solid part non-solid.

    Args:
        prior: of the nodule before.
        current: of the nodule now.
        prior_texture: "non-solid", "part-solid" or "solid"; None where nobody says: then a solid
            part before was given, so that it was part-solid.
        texture: of the nodule now; None where the model tells none: then nothing is judged.

    >>> was, now = Size(solid_component_mm=0.0), Size(solid_component_mm=3.1)
    >>> solid_change(was, now, "non-solid", "part-solid").is_new
    True
    >>> solid_change(was, now, "solid", "solid") is None
    True
    """
    before, after = prior.solid_component_mm, current.solid_component_mm
    if before is None or after is None or texture is None:
        return None
    textures_of = {prior_texture, texture}
    if textures_of == {"solid"} or before == after == 0:
        return None
    textures = (prior_texture, texture) if prior_texture and "solid" in textures_of else None
    was, now = prior.interval_90.get(NAME), current.interval_90.get(NAME)
    if was is None or now is None:
        return SolidChange(before, after, textures=textures)
    (was_low, was_high), (low, high) = was, now
    was_high = was_high if before else max(was_high, MISSED_MM)
    high = high if after else max(high, MISSED_MM)
    difference = after - before
    down = SHARE * math.hypot(after - low, was_high - before)
    up = SHARE * math.hypot(high - after, before - was_low)
    return SolidChange(before, after, (difference - down, difference + up), textures)


def solid_growth(solid: SolidChange | None, days: int | None) -> Json | None:
    """Return what Lung-RADS v2022 says of a change of the solid part; None where none is judged.

    A new solid part counts over any span, growth within 12 months alone. What is measured where
    nothing was before counts as new only if its interval holds no chance that it was missed.

    Args:
        solid: the change.
        days: between both CTs.

    >>> solid_growth(SolidChange(4.0, 6.0), 180)["growth"]
    True
    >>> solid_growth(SolidChange(0.0, 4.0), None)["new"], solid_growth(SolidChange(2.0, 6.0), None)
    (True, {'growth': None, 'new': False, 'note': ...})
    """
    if solid is None:
        return None
    larger = solid.difference_mm > LUNG_RADS_GROWTH_MM
    note = f"solid part {solid.prior_mm:.1f} to {solid.current_mm:.1f} mm" + _interval(solid)
    ends = solid.difference_interval_90
    by_chance = ends is not None and ends[0] <= 0
    new = solid.is_new and larger and not by_chance and solid.textures is None
    growth: bool | None = larger
    if solid.textures is not None:
        was, now = solid.textures
        growth = None
        note += f"; no verdict: the nodule is named {was} before and {now} now; look at it"
    elif new:
        note += ": new"
    elif solid.is_new:
        growth = None
        note += f"; no verdict: parts up to {MISSED_MM} mm are missed at times; look at it"
    elif days is None or not 0 < days <= LUNG_RADS_DAYS:
        growth = None
        note += "; no verdict: growth is defined within 12 months"
    else:
        note += f": {'more' if larger else 'not more'} than 1.5 mm within 12 months"
    if growth and by_chance:
        note += "; it may be chance"
    return {"growth": growth, "new": new, "note": note}


def _interval(solid: SolidChange) -> str:
    ends = solid.difference_interval_90
    told = f", {solid.difference_mm:+.1f} mm"
    return told if ends is None else f"{told} (90% interval {ends[0]:+.1f} to {ends[1]:+.1f} mm)"
