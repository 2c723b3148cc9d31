from dataclasses import replace

import pytest

from resmtnet.evaluation.populations import ALL, PROTOCOL, SIZE_BANDS, SLICES, SUB_SOLID, TEXTURES
from resmtnet.evaluation.records import Case

NODULE = Case("n", "p", (4, 4, 5), 10.0, 13.0, 4.5, 1.5)


@pytest.mark.parametrize("strata", [SIZE_BANDS, TEXTURES, SLICES], ids=["size", "texture", "z"])
@pytest.mark.parametrize("value", [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 15.0, 25.0, 40.0])
def test_every_nodule_is_in_exactly_one_stratum(strata, value):
    nodule = replace(
        NODULE, equivalent_diameter_mm=value, texture_rating=value, slice_thickness_mm=value
    )
    assert sum(stratum.holds(nodule) for stratum in strata) == 1


def test_bands_hold_their_lower_end_and_slices_their_upper_end():
    assert SIZE_BANDS[2].holds(NODULE)
    assert SLICES[0].holds(NODULE)


def test_stratum_of_a_population_asks_for_both():
    both = PROTOCOL & TEXTURES[2]
    assert both.label == "protocol P, solid"
    assert both.holds(NODULE)
    assert not both.holds(replace(NODULE, texture_rating=1.0))
    assert not both.holds(replace(NODULE, malignancy=(3, 3, 3)))
    assert (ALL & TEXTURES[2]).label == "solid"


def test_sub_solid_is_non_solid_or_part_solid():
    ratings = (1.0, 2.0, 3.5, 4.0, None)
    held = [SUB_SOLID.holds(replace(NODULE, texture_rating=rating)) for rating in ratings]
    assert held == [True, True, True, False, False]
