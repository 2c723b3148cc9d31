"""One nodule's guideline block: the category by context, and the range its uncertainty allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from resmtnet.guidelines.category import TEXTURES, Category, check_allowed, known
from resmtnet.guidelines.fleischner_2017 import ORDER as FLEISCHNER_ORDER
from resmtnet.guidelines.fleischner_2017 import fleischner
from resmtnet.guidelines.lung_rads_v2022 import ORDER as LUNG_RADS_ORDER
from resmtnet.guidelines.lung_rads_v2022 import lung_rads

NO_COMPARISON = "the comparison with the prior CT is missing"
CONTEXTS = ("screening_baseline", "screening_followup", "incidental")


def check_context(context: str, name: str = "context") -> str:
    """Return a guideline context that is one of CONTEXTS.

    Args:
        context: what was given.
        name: how the message calls it.

    Raises:
        ConfigError: it is none of them.
    """
    check_allowed(name, context, CONTEXTS)
    return context


@dataclass(frozen=True)
class RangedCategory:
    """A category and the least and most serious one that the uncertainty allows."""

    category: Category
    range: tuple[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return one system's block of the "guidelines" JSON."""
        return {
            "category": self.category.name,
            "range": list(self.range),
            "management": self.category.management,
            "source": self.category.source,
        }


@dataclass(frozen=True)
class Guideline:
    """The "guidelines" block of one nodule; a system that lacks an input is None."""

    context: str
    lung_rads: RangedCategory | None = None
    fleischner: RangedCategory | None = None
    assumptions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the "guidelines" block of schema resmtnet.findings/1."""
        return {
            "lung_rads": self.lung_rads.to_json() if self.lung_rads else None,
            "fleischner": self.fleischner.to_json() if self.fleischner else None,
            "context": self.context,
            "assumptions": list(self.assumptions),
        }


def probable_textures(probabilities: Mapping[str, float], mass: float = 0.9) -> tuple[str, ...]:
    """Return the fewest textures that hold `mass` of the probability, most probable first.

    >>> probable_textures({"non-solid": 0.02, "part-solid": 0.28, "solid": 0.7})
    ('solid', 'part-solid')
    """
    chosen: list[str] = []
    held = 0.0
    for texture in sorted(probabilities, key=lambda name: -probabilities[name]):
        check_allowed("texture", texture, TEXTURES)
        if held >= mass - 1e-9:
            break
        chosen.append(texture)
        held += probabilities[texture]
    return tuple(chosen)


Classify = Callable[[str, float, float | None], Category | None]
"""(texture, mean_diameter_mm, solid_component_mm) -> category."""


def category_range(
    classify: Classify,
    order: tuple[str, ...],
    textures: tuple[str, ...],
    interval_mm: tuple[float, float],
    solid_component_mm: float | None,
    solid_interval_mm: tuple[float, float] | None = None,
) -> tuple[str, str] | None:
    """Return the least and the most serious category that size and texture allow.

    Args:
        classify: one guideline with its other inputs fixed; grows with size and solid part.
        order: its categories, least serious first.
        textures: the probable textures.
        interval_mm: (low, high) of the mean diameter.
        solid_component_mm: of a part-solid nodule; None lets it be anything up to the whole.
        solid_interval_mm: (low, high) of it; None: it is taken as exact.
    """
    low_mm, high_mm = interval_mm
    solids = (0.0, high_mm)
    if solid_component_mm is not None:
        solids = _around(solid_component_mm, solid_interval_mm)
    found = [
        classify(texture, size_mm, min(solid_mm, size_mm))
        for texture in textures
        for size_mm, solid_mm in ((low_mm, solids[0]), (high_mm, solids[1]))
    ]
    ranks = sorted(order.index(category.name) for category in found if category)
    return (order[ranks[0]], order[ranks[-1]]) if ranks else None


def _around(value: float, interval: tuple[float, float] | None) -> tuple[float, float]:
    """Return an interval that holds its value; without one the value is taken as exact."""
    low, high = interval or (value, value)
    return min(low, value), max(high, value)


def assess(
    context: str,
    texture_probabilities: Mapping[str, float],
    mean_diameter_mm: float | None,
    interval_90: tuple[float, float] | None = None,
    solid_component_mm: float | None = None,
    solid_interval_90: tuple[float, float] | None = None,
    *,
    comparison: str | None = None,
    prior_category: str | None = None,
    benign_calcification: bool = False,
    risk: str | None = None,
    multiple: bool = False,
) -> Guideline:
    """Return the guideline block of one nodule, by the system that fits the context.

    Args:
        context: "screening_baseline" or "screening_followup" (Lung-RADS), "incidental"
            (Fleischner).
        texture_probabilities: of "non-solid", "part-solid", "solid"; sum 1.
        mean_diameter_mm: mean of long and short axis.
        interval_90: (low, high) of that diameter; None: the diameter is taken as exact.
        solid_component_mm: mean diameter of the solid part; None if unknown.
        solid_interval_90: (low, high) of it; None: it is taken as exact.
        comparison: with the prior CT of a follow-up screening: "new", "growing", "slowly
            growing" or "stable".
        prior_category: Lung-RADS category of a stable nodule before.
        benign_calcification: complete, central, popcorn or ringed calcification, or fat.
        risk: "low" or "high" (Fleischner); None states both recommendations.
        multiple: whether the patient has several nodules (Fleischner).

    Raises:
        ConfigError: an unknown context, texture, comparison or risk.

    >>> block = assess("screening_baseline", {"solid": 1.0}, 8.2, (7.1, 9.4)).to_json()
    >>> block["lung_rads"]["category"], block["lung_rads"]["range"]
    ('4A', ['3', '4A'])
    """
    check_context(context)
    textures = probable_textures(texture_probabilities)
    incidental = context == "incidental"
    if incidental:
        order: tuple[str, ...] = FLEISCHNER_ORDER
        classify = _fleischner(risk, multiple)
        assumptions = _fleischner_assumptions(risk, multiple)
    else:
        order = LUNG_RADS_ORDER
        comparison = "baseline" if context == "screening_baseline" else comparison
        if comparison is None:
            return Guideline(context, assumptions=(NO_COMPARISON,))
        classify = _lung_rads(comparison, prior_category, benign_calcification)
        assumptions = _lung_rads_assumptions(comparison, benign_calcification)
    if not textures or mean_diameter_mm is None or not known(mean_diameter_mm):
        return Guideline(context, assumptions=("the size or the texture is missing",))
    sizes = _around(mean_diameter_mm, interval_90)
    span = category_range(classify, order, textures, sizes, solid_component_mm, solid_interval_90)
    category = classify(textures[0], mean_diameter_mm, solid_component_mm)
    if category is None or span is None:
        missing = "the solid component" if span else "the category of the prior CT"
        possible = f"; possible: {' to '.join(span)}" if span else ""
        return Guideline(context, assumptions=(f"{missing} is missing{possible}",))
    ranged = RangedCategory(category, span)
    assumptions = (f"texture taken as {textures[0]}", *assumptions)
    if incidental:
        return Guideline(context, fleischner=ranged, assumptions=assumptions)
    return Guideline(context, lung_rads=ranged, assumptions=assumptions)


def _lung_rads(comparison: str, prior: str | None, benign_calcification: bool) -> Classify:
    return partial(
        lung_rads,
        comparison=comparison,
        prior_category=prior,
        benign_calcification=benign_calcification,
    )


def _fleischner(risk: str | None, multiple: bool) -> Classify:
    def classify(texture: str, size_mm: float, solid_mm: float | None) -> Category | None:
        return fleischner(texture, size_mm, solid_mm, risk=risk, multiple=multiple)

    return classify


def _lung_rads_assumptions(comparison: str, benign_calcification: bool) -> tuple[str, ...]:
    return (
        "of this nodule alone: the examination takes the category of its worst nodule",
        {"baseline": "first screening CT, no prior"}.get(comparison, f"nodule is {comparison}"),
        "benign calcification or fat" if benign_calcification else "no benign calcification or fat",
        "not juxtapleural, airway or cystic; suspicious features (4X) are for the reader",
    )


def _fleischner_assumptions(risk: str | None, multiple: bool) -> tuple[str, ...]:
    return (
        "of this nodule alone: the most suspicious nodule decides",
        "age >= 35 years, no known cancer, no immunosuppression",
        "one of several nodules" if multiple else "the only nodule",
        f"{risk} risk of lung cancer" if risk else "risk of lung cancer unknown: both are stated",
    )
