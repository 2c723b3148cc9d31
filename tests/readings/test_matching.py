"""One rule says which nodule is meant, whichever way a reader marks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.regions import Region
from resmtnet.readings.matching import match_regions, nodule_at, radius_mm, reach_mm
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.types import Point

DISTANCES_MM = (0.0, 5.9, 6.1, 14.9, 15.1, 19.9, 20.1, 30.0)
SIZES = {
    "small": {"long_axis_mm": 4.0},
    "of 30 mm": {"mean_diameter_mm": 30.0},
    "of 90 mm": {"equivalent_diameter_mm": 80.0, "long_axis_mm": 90.0},
    "not measured": {},
}


def answered(
    name: str = "N1", centre: Point = (0.0, 0.0, 0.0), size: Any = None, **more: Any
) -> AnsweredNodule:
    finding = {
        "id": name,
        "centre_lps_mm": list(centre),
        "centroid_lps_mm": None,
        "class": {"name": "benign"},
        "size": dict(size or {}),
    }
    return AnsweredNodule(finding, "2", "ab", **more)


def by_the_database(path: Path, size: Any, point: Point) -> bool:
    with ReadingStore.open(path) as store:
        first = store.add(Reading("ct", "ann", (0.0, 0.0, 0.0), sizes=size))
        return store.add(Reading("ct", "bob", point)).nodule == first.nodule


def by_a_point_in_markups(size: Any, point: Point) -> bool:
    placed = {"label": "malignant", "position": list(point)}
    node = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [placed]}
    (draft,) = from_markups({"markups": [node]}, [answered(size=size)]).drafts
    return draft.known is not None


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("mm", DISTANCES_MM)
def test_a_point_is_of_the_same_nodule_whichever_way_it_comes(
    tmp_path: Path, size: dict[str, float], mm: float
) -> None:
    point = (0.0, -mm, 0.0)
    expected = mm <= reach_mm(radius_mm(size))
    assert (nodule_at(point, None, [answered(size=size)]) is not None) == expected
    assert by_a_point_in_markups(size, point) == expected
    assert by_the_database(tmp_path / "readings.sqlite", size, point) == expected


def test_the_reach_is_the_radius_but_at_least_6_and_at_most_20_mm() -> None:
    assert [reach_mm(radius_mm(size)) for size in SIZES.values()] == [6.0, 15.0, 20.0, 6.0]


def test_the_point_that_was_asked_for_is_the_nodules_too() -> None:
    nodule = answered(centre=(0.0, 0.0, 0.0))
    nodule.finding["centroid_lps_mm"] = [10.0, 0.0, 0.0]
    for x in (-5.0, 15.0):
        assert nodule_at((x, 0.0, 0.0), None, [nodule]) is nodule
    assert nodule_at((17.0, 0.0, 0.0), None, [nodule]) is None


def test_of_several_in_reach_name_then_reader_then_answer_then_distance_decide() -> None:
    near = answered("N1", (1.0, 0.0, 0.0), answer=1)
    far = answered("N2", (5.0, 0.0, 0.0), answer=1)
    later = answered("N3", (5.0, 0.0, 0.0), answer=0)
    given = answered("N4", (5.0, 0.0, 0.0), answer=2, seen=True)
    here = (0.0, 0.0, 0.0)
    assert nodule_at(here, "N2", [near, far, later, given]) is far
    assert nodule_at(here, None, [near, far, later, given]) is given
    assert nodule_at(here, None, [near, far, later]) is later
    assert nodule_at(here, None, [far, near]) is near
    assert nodule_at(here, "N2", [near]) is near  # the place decides where the name is not there


@pytest.fixture
def grid() -> Geometry:
    return Geometry((20, 10, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))


def region(grid: Geometry, columns: slice, rows: slice, value: int = 1) -> Region:
    mask = np.zeros(grid.shape_kji, np.uint8)
    mask[0, rows, columns] = 1
    return Region(value, mask, grid)


def drawn(grid: Geometry, columns: slice, rows: slice, **more: Any) -> AnsweredNodule:
    mask = region(grid, columns, rows).mask
    return answered(mask=mask, grid=grid, **more)


def test_a_region_is_of_a_nodule_from_a_tenth_of_the_smaller_one(grid: Geometry) -> None:
    nodule = drawn(grid, slice(0, 10), slice(0, 10))  # 100 voxels
    for shared, is_of in ((9, False), (10, True)):
        mask = np.zeros(grid.shape_kji, np.uint8)
        mask[0, :, 10:] = 1  # 100 voxels beside the nodule
        mask[0, :shared, 9] = 1
        (found,) = match_regions([Region(1, mask, grid)], [nodule])
        size = 100 + shared
        assert (found.known is nodule) == is_of == (shared / min(size, 100) >= 0.1)


def test_of_two_segments_over_a_nodule_the_larger_one_has_it(grid: Geometry) -> None:
    nodule = drawn(grid, slice(0, 10), slice(0, 10))
    small = region(grid, slice(0, 4), slice(0, 10), value=1)
    large = region(grid, slice(4, 10), slice(0, 10), value=2)
    lesser, greater = sorted(match_regions([small, large], [nodule]), key=lambda m: m.region.value)
    assert (lesser.known, lesser.lesser_part) == (None, True)
    assert (greater.known, greater.lesser_part) == (nodule, False)
