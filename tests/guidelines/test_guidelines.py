"""Every line of the tables at its boundaries, and what uncertainty does to a category."""

from __future__ import annotations

import json
import math

import pytest

from resmtnet.errors import ConfigError, InputError
from resmtnet.guidelines import (
    assess,
    brock_probability,
    bts_needs_follow_up,
    category_range,
    fleischner,
    lung_rads,
    probable_textures,
    volume_doubling_time_days,
)

SOLID = {"solid": 1.0}
PART_SOLID = {"part-solid": 1.0}


def rads(*args, **options):
    category = lung_rads(*args, **options)
    return category and category.name


@pytest.mark.parametrize(
    ("diameter_mm", "category"),
    [(5.9, "2"), (6.0, "3"), (7.9, "3"), (8.0, "4A"), (14.9, "4A"), (15.0, "4B"), (30, "4B")],
)
def test_solid_nodule_at_baseline(diameter_mm, category):
    assert rads("solid", diameter_mm) == category


@pytest.mark.parametrize(
    ("diameter_mm", "category"),
    [(3.9, "2"), (4.0, "3"), (5.9, "3"), (6.0, "4A"), (7.9, "4A"), (8.0, "4B"), (20, "4B")],
)
def test_new_solid_nodule(diameter_mm, category):
    assert rads("solid", diameter_mm, comparison="new") == category


@pytest.mark.parametrize(("diameter_mm", "category"), [(3.0, "4A"), (7.9, "4A"), (8.0, "4B")])
def test_growing_solid_nodule(diameter_mm, category):
    assert rads("solid", diameter_mm, comparison="growing") == category


@pytest.mark.parametrize(
    ("diameter_mm", "solid_mm", "category"),
    [
        (5.9, 0.0, "2"),
        (5.9, 5.9, "2"),
        (5.9, None, "2"),
        (6.0, 0.0, "3"),
        (20.0, 5.9, "3"),
        (20.0, 6.0, "4A"),
        (20.0, 7.9, "4A"),
        (20.0, 8.0, "4B"),
        (20.0, None, None),
    ],
)
def test_part_solid_nodule_at_baseline(diameter_mm, solid_mm, category):
    assert rads("part-solid", diameter_mm, solid_mm) == category


@pytest.mark.parametrize(
    ("comparison", "diameter_mm", "solid_mm", "category"),
    [
        ("new", 5.9, 3.9, "3"),
        ("new", 5.9, 4.0, "4B"),
        ("new", 6.0, 3.9, "4A"),
        ("new", 6.0, 4.0, "4B"),
        ("growing", 5.9, 3.9, "4A"),
        ("growing", 12.0, 3.9, "4A"),
        ("growing", 12.0, 4.0, "4B"),
        ("growing", 12.0, None, None),
    ],
)
def test_new_or_growing_part_solid_nodule(comparison, diameter_mm, solid_mm, category):
    assert rads("part-solid", diameter_mm, solid_mm, comparison=comparison) == category


@pytest.mark.parametrize(
    ("comparison", "at_29_9_mm", "at_30_mm"),
    [
        ("baseline", "2", "3"),
        ("new", "2", "3"),
        ("growing", "2", "3"),
        ("slowly growing", "2", "2"),
        ("stable", "2", "2"),
    ],
)
def test_non_solid_nodule(comparison, at_29_9_mm, at_30_mm):
    assert rads("non-solid", 29.9, comparison=comparison) == at_29_9_mm
    assert rads("non-solid", 30.0, comparison=comparison) == at_30_mm


@pytest.mark.parametrize("texture", ["solid", "part-solid"])
def test_slow_growth_of_a_nodule_with_a_solid_part_is_very_suspicious(texture):
    assert rads(texture, 5.0, comparison="slowly growing") == "4B"


@pytest.mark.parametrize(
    ("prior", "category"), [("1", "1"), ("2", "2"), ("3", "2"), ("4A", "3"), ("4B", None)]
)
def test_stable_nodule_steps_down_from_its_prior_category(prior, category):
    assert rads("solid", 9.0, comparison="stable", prior_category=prior) == category
    assert rads("solid", 9.0, comparison="stable") is None


def test_benign_calcification_is_category_1_whatever_the_size():
    assert rads("solid", 25.0, benign_calcification=True) == "1"


@pytest.mark.parametrize(("diameter_mm", "category"), [(5.949, "2"), (5.95, "3"), (7.95, "4A")])
def test_lung_rads_compares_the_diameter_rounded_to_one_decimal(diameter_mm, category):
    assert rads("solid", diameter_mm) == category


@pytest.mark.parametrize(
    ("texture", "comparison", "volume_mm3", "category"),
    [
        ("solid", "baseline", 112.4, "2"),
        ("solid", "baseline", 112.6, "3"),
        ("solid", "baseline", 267, "3"),
        ("solid", "baseline", 268, "4A"),
        ("solid", "baseline", 1766, "4A"),
        ("solid", "baseline", 1767, "4B"),
        ("solid", "new", 33, "2"),
        ("solid", "new", 34, "3"),
        ("solid", "new", 113, "4A"),
        ("solid", "new", 268, "4B"),
        ("non-solid", "baseline", 14136, "2"),
        ("non-solid", "baseline", 14137, "3"),
    ],
)
def test_lung_rads_takes_the_volume_if_it_is_given(texture, comparison, volume_mm3, category):
    assert rads(texture, None, volume_mm3=volume_mm3, comparison=comparison) == category
    assert rads(texture, 5.0, volume_mm3=volume_mm3, comparison=comparison) == category


@pytest.mark.parametrize("size", [None, math.nan, math.inf, 0.0, -1.0])
def test_without_a_usable_size_there_is_no_category(size):
    assert lung_rads("solid", size) is None
    assert fleischner("solid", size) is None


@pytest.mark.parametrize(
    ("texture", "diameter_mm", "size_class"),
    [
        ("solid", 5.4, "solid < 6 mm"),
        ("solid", 5.5, "solid 6-8 mm"),
        ("solid", 8.4, "solid 6-8 mm"),
        ("solid", 8.5, "solid > 8 mm"),
        ("non-solid", 5.4, "non-solid < 6 mm"),
        ("non-solid", 5.5, "non-solid >= 6 mm"),
        ("part-solid", 5.4, "part-solid < 6 mm"),
        ("part-solid", 25.0, "part-solid >= 6 mm"),
    ],
)
def test_fleischner_size_class_is_of_whole_millimetres(texture, diameter_mm, size_class):
    assert fleischner(texture, diameter_mm).name == size_class


@pytest.mark.parametrize(
    ("solid_mm", "added"),
    [
        (None, ""),
        (0.0, ""),
        (5.4, ""),
        (5.5, ", solid part >= 6 mm"),
        (8.4, ", solid part >= 6 mm"),
        (8.5, ", solid part > 8 mm"),
    ],
)
def test_fleischner_of_a_part_solid_nodule_depends_on_its_solid_part(solid_mm, added):
    assert fleischner("part-solid", 12.0, solid_mm).name == f"part-solid >= 6 mm{added}"
    assert fleischner("part-solid", 5.0, solid_mm).name == "part-solid < 6 mm"
    assert fleischner("solid", 12.0, solid_mm).name == "solid > 8 mm"


def test_part_solid_nodules_get_their_category_in_both_contexts():
    lung_rads_block = assess("screening_baseline", PART_SOLID, 12.0, None, 7.0, (5.5, 8.2))
    assert lung_rads_block.to_json()["lung_rads"]["category"] == "4A"
    assert lung_rads_block.to_json()["lung_rads"]["range"] == ["3", "4B"]
    incidental = assess("incidental", PART_SOLID, 12.0, None, 7.0, (5.5, 8.6)).to_json()
    assert incidental["fleischner"]["category"] == "part-solid >= 6 mm, solid part >= 6 mm"
    assert incidental["fleischner"]["range"][1] == "part-solid >= 6 mm, solid part > 8 mm"


@pytest.mark.parametrize(
    ("volume_mm3", "size_class"),
    [(99, "solid < 6 mm"), (100, "solid 6-8 mm"), (250, "solid 6-8 mm"), (251, "solid > 8 mm")],
)
def test_fleischner_takes_the_volume_if_it_is_given(volume_mm3, size_class):
    assert fleischner("solid", 5.0, volume_mm3=volume_mm3).name == size_class


@pytest.mark.parametrize(
    ("texture", "diameter_mm", "risk", "multiple", "words"),
    [
        ("solid", 5, "low", False, "no routine follow-up"),
        ("solid", 5, "high", False, "optional CT at 12 months"),
        ("solid", 7, "low", False, "CT at 6-12 months, then consider CT at 18-24 months"),
        ("solid", 7, "high", False, "CT at 6-12 months, then CT at 18-24 months"),
        ("solid", 9, "low", False, "consider CT at 3 months, PET/CT or tissue sampling"),
        ("solid", 7, "low", True, "CT at 3-6 months, then consider CT at 18-24 months"),
        ("solid", 9, "high", True, "CT at 3-6 months, then CT at 18-24 months"),
        ("non-solid", 5, None, False, "no routine follow-up"),
        ("non-solid", 7, None, False, "CT at 6-12 months to confirm persistence, then every 2"),
        ("part-solid", 5, None, False, "no routine follow-up"),
        ("part-solid", 7, None, False, "CT at 3-6 months to confirm persistence, then yearly"),
        ("non-solid", 5, None, True, "CT at 3-6 months; if stable, consider CT at 2 and 4 years"),
        ("part-solid", 7, None, True, "CT at 3-6 months, then by the most suspicious nodule"),
    ],
)
def test_fleischner_recommendation(texture, diameter_mm, risk, multiple, words):
    category = fleischner(texture, diameter_mm, risk=risk, multiple=multiple)
    assert category.management.startswith(words)


def test_fleischner_states_both_recommendations_if_the_risk_is_unknown():
    assert fleischner("solid", 5).management == (
        "low risk: no routine follow-up; high risk: optional CT at 12 months"
    )


def test_every_category_cites_its_source():
    assert "v2022" in lung_rads("solid", 5).source
    assert "10.1148/radiol.2017161659" in fleischner("solid", 5).source


@pytest.mark.parametrize(
    "call",
    [
        lambda: lung_rads("ground glass", 5),
        lambda: lung_rads("solid", 5, comparison="old"),
        lambda: fleischner("solid", 5, risk="medium"),
        lambda: assess("screening", SOLID, 5),
        lambda: assess("incidental", {"glass": 1.0}, 5),
    ],
)
def test_an_unknown_name_is_refused_with_those_allowed(call):
    with pytest.raises(ConfigError, match="allowed: "):
        call()


def test_probable_textures_hold_nine_tenths_of_the_probability():
    assert probable_textures({"solid": 0.9, "part-solid": 0.1}) == ("solid",)
    assert len(probable_textures({"solid": 0.4, "part-solid": 0.3, "non-solid": 0.3})) == 3
    assert probable_textures({"solid": 0.6, "part-solid": 0.4}, mass=0.5) == ("solid",)


def test_category_range_spans_an_unknown_solid_component():
    order = ("2", "3", "4A", "4B")
    assert category_range(lung_rads, order, ("part-solid",), (9.0, 11.0), None) == ("3", "4B")
    assert category_range(lung_rads, order, ("part-solid",), (9.0, 11.0), 7.0) == ("4A", "4A")


def test_the_range_covers_the_interval_of_the_size():
    block = assess("screening_baseline", SOLID, 8.2, (5.5, 16.0)).to_json()["lung_rads"]
    assert (block["category"], block["range"]) == ("4A", ["2", "4B"])
    assert assess("screening_baseline", SOLID, 8.2).to_json()["lung_rads"]["range"] == ["4A", "4A"]


def test_the_range_covers_the_probable_textures():
    mixed = {"solid": 0.6, "non-solid": 0.3, "part-solid": 0.1}
    block = assess("screening_baseline", mixed, 8.2).to_json()["lung_rads"]
    assert (block["category"], block["range"]) == ("4A", ["2", "4A"])


def test_part_solid_without_its_solid_component_has_no_category_but_says_what_is_possible():
    guideline = assess("screening_baseline", PART_SOLID, 12.0)
    assert guideline.lung_rads is None
    assert "solid component is missing; possible: 3 to 4B" in guideline.assumptions[0]
    known = assess("screening_baseline", PART_SOLID, 12.0, solid_component_mm=7.0)
    assert known.lung_rads is not None
    assert known.lung_rads.category.name == "4A"


def test_follow_up_screening_needs_the_comparison_with_the_prior():
    assert assess("screening_followup", SOLID, 7.0).lung_rads is None
    new = assess("screening_followup", SOLID, 7.0, comparison="new").lung_rads
    stable = assess("screening_followup", SOLID, 7.0, comparison="stable", prior_category="3")
    lost = assess("screening_followup", SOLID, 7.0, comparison="stable")
    assert new is not None
    assert new.category.name == "4A"
    assert stable.lung_rads is not None
    assert stable.lung_rads.category.name == "2"
    assert lost.lung_rads is None
    assert "category of the prior CT is missing" in lost.assumptions[0]


def test_a_context_gives_one_system_only():
    screening = assess("screening_baseline", SOLID, 7.0)
    incidental = assess("incidental", SOLID, 7.0)
    assert screening.fleischner is None
    assert incidental.lung_rads is None
    assert incidental.fleischner is not None
    assert incidental.fleischner.category.name == "solid 6-8 mm"


def test_incidental_range_is_ordered_by_urgency():
    mixed = {"solid": 0.5, "non-solid": 0.5}
    span = assess("incidental", mixed, 7.0, (5.0, 10.0)).fleischner
    assert span is not None
    assert span.range == ("non-solid < 6 mm", "solid > 8 mm")


def test_options_reach_the_guideline_and_are_stated():
    calcified = assess("screening_baseline", SOLID, 20.0, benign_calcification=True)
    high = assess("incidental", SOLID, 5.0, risk="high", multiple=True)
    assert calcified.lung_rads is not None
    assert calcified.lung_rads.range == ("1", "1")
    assert high.fleischner is not None
    assert high.fleischner.category.management == "optional CT at 12 months"
    assert "one of several nodules" in high.assumptions
    assert any("high risk" in line for line in high.assumptions)


@pytest.mark.parametrize("size", [None, math.nan, 0.0])
@pytest.mark.parametrize("context", ["screening_baseline", "incidental"])
def test_a_missing_size_gives_null_and_says_so(context, size):
    block = assess(context, SOLID, size, (4.0, 9.0)).to_json()
    assert (block["lung_rads"], block["fleischner"]) == (None, None)
    assert block["assumptions"] == ["the size or the texture is missing"]


def test_no_texture_gives_null():
    assert assess("screening_baseline", {}, 8.0).lung_rads is None


def test_the_block_is_json_and_says_it_is_of_one_nodule():
    block = assess("screening_baseline", SOLID, 8.2, (7.1, 9.4)).to_json()
    assert json.loads(json.dumps(block)) == block
    assert set(block) == {"lung_rads", "fleischner", "context", "assumptions"}
    assert any("nodule alone" in line for line in block["assumptions"])


BROCK = {
    "age_years": 62,
    "female": False,
    "family_history": False,
    "emphysema": False,
    "maximum_diameter_mm": 10,
    "upper_lobe": False,
    "texture": "solid",
    "nodule_count": 1,
    "spiculated": False,
}


def test_brock_of_the_reference_man():
    assert brock_probability(**BROCK) == pytest.approx(0.032, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "value", "logit_change"),
    [
        ("age_years", 72, 0.287),
        ("female", True, 0.6011),
        ("family_history", True, 0.2961),
        ("emphysema", True, 0.2953),
        ("maximum_diameter_mm", 40, 5.3854 / 2),
        ("upper_lobe", True, 0.6581),
        ("texture", "part-solid", 0.377),
        ("texture", "non-solid", -0.1276),
        ("nodule_count", 2, -0.0824),
        ("spiculated", True, 0.7729),
    ],
)
def test_every_brock_input_counts_with_its_coefficient(name, value, logit_change):
    def logit(p):
        return math.log(p / (1 - p))

    changed = brock_probability(**{**BROCK, name: value})
    assert logit(changed) - logit(brock_probability(**BROCK)) == pytest.approx(logit_change)


def test_brock_with_spiculation_is_the_uncentred_equation_of_another_paper():
    """Eur Radiol 29:5367, 2019, Table 2 prints it with the constant 0.2761, not centred."""
    woman = {"age_years": 70, "female": True, "emphysema": True, "maximum_diameter_mm": 15}
    woman |= {"upper_lobe": True, "texture": "part-solid", "nodule_count": 3, "spiculated": True}
    logit = 0.2761 + 0.0287 * 70 + 0.6011 + 0.2953 - 5.3854 * 1.5**-0.5 + 0.6581 + 0.377
    logit += -0.0824 * 3 + 0.7729
    expected = 1 / (1 + math.exp(-logit))
    assert brock_probability(**{**BROCK, **woman}) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "value", "logit_change"),
    [
        ("age_years", 72, 0.321),
        ("female", True, 0.5635),
        ("family_history", True, 0.3013),
        ("emphysema", True, 0.3462),
        ("maximum_diameter_mm", 40, 5.6693 / 2),
        ("upper_lobe", True, 0.7116),
        ("texture", "part-solid", 0.3395),
        ("texture", "non-solid", -0.3055),
        ("nodule_count", 2, -0.0803),
    ],
)
def test_brock_without_spiculation_has_its_own_coefficients(name, value, logit_change):
    def logit(p):
        return math.log(p / (1 - p))

    plain = {**BROCK, "spiculated": None}
    changed = brock_probability(**{**plain, name: value})
    assert logit(changed) - logit(brock_probability(**plain)) == pytest.approx(logit_change)


def test_brock_without_spiculation_is_its_constant_where_it_is_centred():
    centred = {**BROCK, "maximum_diameter_mm": 4, "nodule_count": 4, "spiculated": None}
    assert brock_probability(**centred) == pytest.approx(1 / (1 + math.exp(6.8071)))


def test_brock_refuses_an_impossible_diameter():
    with pytest.raises(InputError, match="above 0"):
        brock_probability(**{**BROCK, "maximum_diameter_mm": 0})


def test_volume_change_below_a_quarter_is_stable():
    assert volume_doubling_time_days(100, 400, 400) == pytest.approx(200)
    assert volume_doubling_time_days(100, 125, 90) is not None
    assert volume_doubling_time_days(100, 124.9, 90) is None
    assert volume_doubling_time_days(100, 50, 90) is None
    with pytest.raises(InputError, match="above 0"):
        volume_doubling_time_days(100, 200, 0)


@pytest.mark.parametrize(
    ("diameter_mm", "volume_mm3", "needed"),
    [(4.9, None, False), (5.0, None, True), (9.0, 79.9, False), (4.0, 80.0, True)],
)
def test_bts_threshold(diameter_mm, volume_mm3, needed):
    assert bts_needs_follow_up(diameter_mm, volume_mm3) is needed
