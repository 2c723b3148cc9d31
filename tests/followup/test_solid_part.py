"""The solid part: judged where one of both CTs shows a part-solid nodule, and only there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from made_findings import make_finding, small_grid
from resmtnet.characteristics import TEXTURE
from resmtnet.findings import Characteristic, Finding, Size
from resmtnet.followup.block import PAIRED, Before, with_prior
from resmtnet.followup.category import HIGHER_SIZE
from resmtnet.followup.given import GivenPrior, with_given
from resmtnet.followup.solid_part import SHARE, SolidChange, solid_change, solid_growth
from resmtnet.followup.text import prior_lines
from resmtnet.followup.visit import Visit
from resmtnet.guidelines import NO_COMPARISON

PRIOR = Visit("prior", date(2024, 8, 4))
DAYS = 180
WIDE, NARROW = 6.0, 0.5


def sized(mm: float, solid_mm: float | None, half_mm: float = NARROW) -> Size:
    intervals = {"mean_diameter_mm": (mm - 0.5, mm + 0.5)}
    if solid_mm is not None:
        intervals["solid_component_mm"] = (max(0.0, solid_mm - half_mm), solid_mm + half_mm)
    return Size(mean_diameter_mm=mm, solid_component_mm=solid_mm, interval_90=intervals)


def nodule(size: Size, texture: str = "part-solid") -> Finding:
    shares = dict.fromkeys(("non-solid", "part-solid", "solid"), 0.01) | {texture: 0.98}
    guidelines = {
        "context": "screening_followup",
        "lung_rads": None,
        "fleischner": None,
        "assumptions": [NO_COMPARISON],
    }
    return replace(
        make_finding(small_grid(), (12, 10, 6)),
        size=size,
        characteristics={TEXTURE.name: Characteristic(texture, 3.0, shares)},
        guidelines=guidelines,
    )


def compared(
    before: Size, now: Size, textures: tuple[str, str] = ("part-solid", "part-solid"), **of: Any
) -> Finding:
    was = Before(before, nodule_id="N1", texture=textures[0], **of)
    return with_prior(nodule(now, textures[1]), PAIRED, PRIOR, DAYS, was)


def test_a_growing_solid_part_is_growth_though_the_whole_nodule_is_not() -> None:
    told = compared(sized(10.0, 2.0), sized(10.4, 3.8))
    assert told.prior is not None
    lung_rads = told.prior["lung_rads"]
    assert lung_rads["growth"] is True
    assert lung_rads["solid_part"]["growth"] is True
    assert not lung_rads["solid_part"]["new"]
    assert told.prior["change"]["solid_component_mm"]["difference"] == pytest.approx(1.8)
    assert told.guidelines["lung_rads"]["category"] == "4A"
    assert "its solid part is growing" in told.guidelines["assumptions"]
    assert any("solid part 2.0 to 3.8 mm" in line for line in prior_lines(told.to_json()))


def test_a_growing_solid_part_of_4_mm_is_4b() -> None:
    told = compared(sized(10.0, 4.0), sized(10.4, 5.8))
    assert told.guidelines["lung_rads"]["category"] == "4B"


def test_a_solid_part_in_what_was_ground_glass_is_new_over_any_span() -> None:
    was = Before(sized(10.0, 0.0), nodule_id="N1", texture="non-solid")
    told = with_prior(nodule(sized(10.2, 7.0)), PAIRED, PRIOR, None, was)
    assert told.prior is not None
    assert told.prior["lung_rads"]["growth"] is True
    assert told.prior["lung_rads"]["solid_part"]["new"] is True
    assert told.guidelines["lung_rads"]["category"] == "4B"
    assert "its solid part is new" in told.guidelines["assumptions"]
    assert told.prior["change"]["solid_component_mm"]["percent"] is None


def test_a_small_new_solid_part_may_have_been_missed_before() -> None:
    """The nodule does not step down, since nobody knows."""
    told = compared(sized(10.0, 0.0), sized(10.0, 4.0), ("non-solid", "part-solid"), category="2")
    assert told.prior is not None
    assert told.prior["lung_rads"]["growth"] is None
    assert "missed at times" in told.prior["lung_rads"]["solid_part"]["note"]
    assert told.guidelines["lung_rads"] is None
    assert any("missed at times" in text for text in told.guidelines["assumptions"])


def test_a_solid_part_that_grows_counts_whatever_the_texture_is_named() -> None:
    told = compared(sized(20.0, 4.0), sized(20.0, 8.0), ("non-solid", "non-solid"))
    assert told.guidelines["lung_rads"]["category"] == "4B"
    assert "texture taken as part-solid" in told.guidelines["assumptions"]


@pytest.mark.parametrize("textures", [("non-solid", "solid"), ("solid", "part-solid")])
def test_a_nodule_that_is_named_solid_once_gets_no_verdict(textures: tuple[str, str]) -> None:
    told = compared(sized(10.0, 4.0), sized(10.0, 10.0), textures)
    assert told.prior is not None
    assert told.prior["lung_rads"]["growth"] is None
    assert f"named {textures[0]} before" in told.prior["lung_rads"]["solid_part"]["note"]


def test_a_stable_solid_part_leaves_a_stable_nodule_stable() -> None:
    told = compared(sized(10.0, 4.0), sized(10.4, 5.4), category="3", first_category="3")
    assert told.prior is not None
    assert told.prior["lung_rads"]["growth"] is False
    assert told.guidelines["lung_rads"]["category"] == "2"


@pytest.mark.parametrize(("texture", "mm"), [("solid", (6.0, 10.2)), ("non-solid", (0.0, 0.0))])
def test_what_is_solid_throughout_or_has_no_solid_part_is_not_judged_by_it(
    texture: str, mm: tuple[float, float]
) -> None:
    told = compared(sized(10.0, mm[0]), sized(10.2, mm[1]), (texture, texture))
    assert told.prior is not None
    assert told.prior["lung_rads"]["solid_part"] is None
    assert told.prior["lung_rads"]["growth"] is False
    assert "solid_component_mm" not in told.prior["change"]


def test_growth_of_a_solid_part_is_defined_within_12_months() -> None:
    assert solid_growth(SolidChange(4.0, 8.0), 400) == {
        "growth": None,
        "new": False,
        "note": "solid part 4.0 to 8.0 mm, +4.0 mm; no verdict: growth is defined within 12 months",
    }


@pytest.mark.parametrize(("mm", "growth"), [(5.5, False), (5.6, True)])
def test_growth_of_a_solid_part_is_more_than_1_5_mm(mm: float, growth: bool) -> None:
    told = solid_growth(SolidChange(4.0, mm), 180)
    assert told is not None
    assert told["growth"] is growth


def test_growth_whose_interval_holds_none_may_be_chance() -> None:
    wide = compared(sized(12.0, 4.0, WIDE), sized(12.0, 6.0, WIDE))
    narrow = compared(sized(12.0, 4.0), sized(12.0, 6.0))
    for told, chance in ((wide, True), (narrow, False)):
        assert told.prior is not None
        assert ("chance" in told.prior["lung_rads"]["solid_part"]["note"]) is chance


def test_the_interval_is_made_of_both_half_widths_each_on_its_own_side() -> None:
    was = Size(solid_component_mm=4.0, interval_90={"solid_component_mm": (3.0, 6.0)})
    now = Size(solid_component_mm=7.0, interval_90={"solid_component_mm": (5.0, 8.0)})
    told = solid_change(was, now, "part-solid", "part-solid")
    assert told is not None
    assert told.difference_interval_90 == pytest.approx(
        (3.0 - SHARE * (2.0**2 + 2.0**2) ** 0.5, 3.0 + SHARE * (1.0**2 + 1.0**2) ** 0.5)
    )


def test_a_solid_part_that_was_not_measured_is_told() -> None:
    told = compared(sized(10.0, None), sized(10.2, 4.0))
    assert told.prior is not None
    assert any("solid part is not judged" in note for note in told.prior["notes"])


def test_the_solid_part_of_a_report_counts() -> None:
    given = {"date": "2024-08-04", "mean_diameter_mm": 10, "solid_component_mm": 2.0}
    now = Visit("now", date(2025, 1, 31))
    (told,) = with_given([nodule(sized(10.0, 4.5))], [GivenPrior.parse(given)], now)
    assert told.prior is not None
    assert told.prior["lung_rads"]["solid_part"]["growth"] is True
    none = GivenPrior.parse(given | {"solid_component_mm": 0})
    (told,) = with_given([nodule(sized(10.0, 7.5))], [none], now)
    assert told.prior is not None
    assert told.prior["lung_rads"]["solid_part"]["new"] is True


def test_a_nodule_that_reaches_a_higher_size_category_is_judged_by_its_size() -> None:
    told = compared(
        sized(7.5, None), sized(8.4, None), ("solid", "solid"), category="3", first_category="3"
    )
    assert told.prior is not None
    assert told.prior["lung_rads"]["growth"] is False
    assert told.guidelines["lung_rads"]["category"] == "4A"
    assert HIGHER_SIZE in told.guidelines["assumptions"]
