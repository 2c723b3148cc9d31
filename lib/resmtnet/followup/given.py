"""A prior that the user gives as date and size, where no prior CT is at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from resmtnet.errors import InputError
from resmtnet.findings import Finding, Size
from resmtnet.followup.block import GIVEN, Before, with_prior
from resmtnet.followup.category import first_category
from resmtnet.followup.visit import Visit, days_between, parse_day

LIMITS = {
    "long_axis_mm": (1.0, 150.0),
    "short_axis_mm": (1.0, 150.0),
    "mean_diameter_mm": (1.0, 150.0),
    "volume_mm3": (1.0, 2e6),
    "solid_component_mm": (0.0, 150.0),
}
OTHERWISE_MEASURED = (
    "the prior size was given, not measured here: another method may differ by more than the nodule"
)


@dataclass(frozen=True)
class GivenPrior:
    """One nodule on a prior CT, as the user tells it."""

    size: Size
    day: date | None = None
    current_day: date | None = None
    """Of the current CT; None: that of its headers."""
    category: str | None = None
    """Lung-RADS category before."""

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> GivenPrior:
        """Read the fields of a request.

        Args:
            given: date, current_date (2025-01-31), category, and at least one size: long_axis_mm,
                short_axis_mm, mean_diameter_mm, volume_mm3, solid_component_mm (0: none). Both
                axes give the mean diameter.

        Raises:
            InputError: an unknown field, a value that is not allowed, or no size.

        >>> GivenPrior.parse({"long_axis_mm": 8, "short_axis_mm": 6}).size.mean_diameter_mm
        7.0
        """
        allowed = ("date", "current_date", "category", *LIMITS)
        unknown = [str(name) for name in given if name not in allowed]
        if unknown:
            raise InputError(f"prior has no field {unknown[0]!r}; allowed: {', '.join(allowed)}")
        sizes = {name: _number(given.get(name), name) for name in LIMITS}
        long_mm, short_mm = sizes["long_axis_mm"], sizes["short_axis_mm"]
        if sizes["mean_diameter_mm"] is None and long_mm is not None and short_mm is not None:
            sizes["mean_diameter_mm"] = (long_mm + short_mm) / 2
        if all(size is None for size in sizes.values()):
            raise InputError(f"prior: at least one size is needed, of {', '.join(LIMITS)}")
        day, current = given.get("date"), given.get("current_date")
        category = given.get("category")
        return cls(
            Size(
                long_axis_mm=long_mm,
                short_axis_mm=short_mm,
                mean_diameter_mm=sizes["mean_diameter_mm"],
                volume_mm3=sizes["volume_mm3"],
                solid_component_mm=sizes["solid_component_mm"],
            ),
            None if day is None else parse_day(str(day), "prior: date"),
            None if current is None else parse_day(str(current), "prior: current_date"),
            None if category is None else str(category),
        )


def with_given(
    findings: Sequence[Finding], priors: Sequence[GivenPrior], current: Visit
) -> list[Finding]:
    """Return findings with the priors that the user gives.

    Args:
        findings: of the current CT, in the order of the points.
        priors: one for each of them.
        current: the current CT.

    Raises:
        InputError: the priors are not one for each finding, or later than the current CT.
    """
    if len(priors) != len(findings):
        raise InputError(
            f"prior: {len(priors)} given for {len(findings)} nodules; one for each point is needed"
        )
    return [_with(finding, prior, current) for finding, prior in zip(findings, priors, strict=True)]


def _with(finding: Finding, prior: GivenPrior, current: Visit) -> Finding:
    visit = Visit("given", prior.day)
    days = days_between(visit, Visit(current.image_id, prior.current_day or current.day))
    before = Before(
        prior.size,
        texture="non-solid" if prior.size.solid_component_mm == 0 else None,
        category=prior.category,
        first_category=first_category(finding, prior.size),
    )
    return with_prior(finding, GIVEN, visit, days, before, notes=(OTHERWISE_MEASURED,))


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    low, high = LIMITS[name]
    number = math.nan
    if isinstance(value, (int, float)) and abs(value) <= high:  # else beyond float, maybe
        number = float(value)
    if isinstance(value, bool) or not low <= number <= high:
        raise InputError(f"prior: {name} is {value!r}; a number of {low:g} to {high:g} is needed")
    return number
