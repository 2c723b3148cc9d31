"""A prior that is given as date and size: the same changes, with the caveat of another method."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from made_findings import make_finding, small_grid
from resmtnet.characteristics import TEXTURE
from resmtnet.errors import InputError
from resmtnet.findings import Characteristic, Finding, Size
from resmtnet.followup.given import OTHERWISE_MEASURED, GivenPrior, with_given
from resmtnet.followup.visit import Visit
from resmtnet.guidelines import NO_COMPARISON

NOW = Visit("now", date(2025, 1, 31))


def finding(mm: float = 8.0, mm3: float = 268.0, context: str | None = None) -> Finding:
    size = Size(
        mean_diameter_mm=mm,
        volume_mm3=mm3,
        interval_90={"volume_mm3": (0.8 * mm3, 1.25 * mm3), "mean_diameter_mm": (mm - 1, mm + 1)},
    )
    shares = {"solid": 0.98, "part-solid": 0.01, "non-solid": 0.01}
    texture = Characteristic("solid", 4.9, shares)
    assumptions = [NO_COMPARISON] if context else []
    guidelines = {"context": context, "lung_rads": None, "assumptions": assumptions}
    made = make_finding(small_grid(), (12, 10, 6))
    return replace(made, size=size, characteristics={TEXTURE.name: texture}, guidelines=guidelines)


def told(prior: dict[str, Any], **of: Any) -> Finding:
    return with_given([finding(**of)], [GivenPrior.parse(prior)], NOW)[0]


def test_a_volume_and_a_date_give_change_and_doubling_time() -> None:
    prior = told({"date": "2024-08-04", "volume_mm3": 134})
    assert prior.prior is not None
    assert prior.prior["status"] == "given"
    assert prior.prior["interval_days"] == 180
    assert prior.prior["change"]["volume_mm3"]["percent"] == pytest.approx(100)
    assert prior.prior["volume_doubling_time"]["days"] == pytest.approx(180)
    assert prior.prior["bts"]["growth"] is True
    assert OTHERWISE_MEASURED in prior.prior["notes"]


def test_both_axes_give_the_mean_diameter() -> None:
    prior = told({"date": "2024-08-04", "long_axis_mm": 7, "short_axis_mm": 5}).prior
    assert prior is not None
    assert prior["change"]["mean_diameter_mm"]["difference"] == pytest.approx(2)
    assert prior["lung_rads"]["growth"] is True
    assert prior["volume_doubling_time"] is None


def test_without_a_date_there_is_no_doubling_time_and_no_verdict_of_lung_rads() -> None:
    prior = told({"volume_mm3": 134, "mean_diameter_mm": 6}).prior
    assert prior is not None
    assert prior["volume_doubling_time"] is None
    assert prior["lung_rads"]["growth"] is None
    assert any("dates" in note for note in prior["notes"])


def test_growth_makes_a_category_of_the_follow_up() -> None:
    context = "screening_followup"
    grown = told({"date": "2024-08-04", "mean_diameter_mm": 5}, context=context)
    assert grown.guidelines["lung_rads"]["category"] == "4B"
    assert "nodule is growing" in grown.guidelines["assumptions"]


def test_a_stable_nodule_steps_down_from_the_category_that_is_given() -> None:
    prior = {"date": "2024-08-04", "mean_diameter_mm": 8, "category": "4A"}
    stable = told(prior, context="screening_followup")
    assert stable.guidelines["lung_rads"]["category"] == "3"
    assert "category of the prior CT: 4A" in stable.guidelines["assumptions"]


def test_after_more_than_12_months_there_is_no_category_and_the_reason_is_told() -> None:
    late = told({"date": "2022-08-04", "mean_diameter_mm": 5}, context="screening_followup")
    assert late.guidelines["lung_rads"] is None
    assert any("within 12 months" in text for text in late.guidelines["assumptions"])


@pytest.mark.parametrize(
    ("prior", "reason"),
    [
        ({"date": "2024-08-04"}, "at least one size"),
        ({"volume_mm3": 0}, "volume_mm3 is 0"),
        ({"volume_mm3": "7"}, "volume_mm3"),
        ({"volume_mm3": 10**400}, "volume_mm3"),
        ({"volume_mm3": 100, "date": "last year"}, "date"),
        ({"volume": 100}, "no field 'volume'"),
    ],
)
def test_what_is_wrong_is_told(prior: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GivenPrior.parse(prior)


def test_a_prior_is_needed_for_each_point_and_must_be_earlier() -> None:
    prior = GivenPrior.parse({"volume_mm3": 100})
    with pytest.raises(InputError, match="1 given for 2"):
        with_given([finding(), finding()], [prior], NOW)
    with pytest.raises(InputError, match="earlier"):
        told({"volume_mm3": 100, "date": "2025-02-01"})
