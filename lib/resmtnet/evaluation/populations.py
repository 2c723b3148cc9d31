"""The groups of nodules on which figures are computed, and how they are cut into strata."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from resmtnet.characteristics import TEXTURE_CLASS
from resmtnet.evaluation.records import Case


@dataclass(frozen=True)
class Population:
    """Nodules that have something in common."""

    label: str
    """As the report names it."""
    holds: Callable[[Case], bool]

    def __and__(self, stratum: Stratum) -> Population:
        """Return the nodules of this population that are in a stratum."""
        label = stratum.label if self is ALL else f"{self.label}, {stratum.label}"
        return Population(label, lambda case: self.holds(case) and stratum.holds(case))


@dataclass(frozen=True)
class Stratum(Population):
    """One of the parts into which a population is cut."""

    slug: str
    """In the names of figures."""


ALL = Population("all", lambda case: True)
RATED = Population("rated", lambda case: bool(case.malignancy))
THREE_READERS = Population(">= 3 readers", lambda case: case.enough_readers)
PROTOCOL = Population("protocol P", lambda case: case.in_protocol)
MEDIAN_3 = Population("median 3", lambda case: case.enough_readers and not case.in_protocol)
DIAGNOSED = Population("patients with a diagnosis", lambda case: case.diagnosis is not None)
SUB_SOLID = Population("sub-solid", lambda case: case.texture_class in (TEXTURE_CLASS.levels[:2]))


def _band(low: float, high: float) -> Stratum:
    end = "up" if high == math.inf else str(high)
    label = f"< {high} mm" if not low else f">= {low} mm" if end == "up" else f"{low}-{high} mm"
    return Stratum(label, lambda case: low <= case.equivalent_diameter_mm < high, f"{low}_{end}_mm")


def _texture(name: str) -> Stratum:
    return Stratum(name, lambda case: case.texture_class == name, name.replace("-", "_"))


def _slices(low: float, high: float) -> Stratum:
    label = (
        f"slices <= {high} mm"
        if not low
        else f"slices > {low} mm"
        if high == math.inf
        else f"slices > {low}-{high} mm"
    )
    slug = f"slices_{low}_{'up' if high == math.inf else high}_mm".replace(".", "p")
    return Stratum(label, lambda case: low < case.slice_thickness_mm <= high, slug)


SIZE_BANDS = tuple(_band(*ends) for ends in ((0, 6), (6, 10), (10, 15), (15, 25), (25, math.inf)))
"""By the readers' equivalent diameter, lower end included."""
CLASS_BANDS = SIZE_BANDS[1:3]
"""Where size alone says little of the class."""
TEXTURES = tuple(_texture(name) for name in TEXTURE_CLASS.levels)
"""By the readers' mean rating."""
SLICES = tuple(_slices(*ends) for ends in ((0, 1.5), (1.5, 2), (2, math.inf)))
"""By slice thickness, upper end included."""
