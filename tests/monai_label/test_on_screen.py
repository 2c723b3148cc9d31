"""After a click Slicer's segments hold what the model says, and what was there before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from resmtnet.ct import Geometry
from resmtnet.findings import Finding
from resmtnet.monai_label.on_screen import after_click

PLACES = {"benign": (5, 5, 5), "malignant": (12, 12, 5), "indeterminate": (19, 5, 5)}


@pytest.fixture
def nodule(grid: Geometry, make_finding: Callable[..., Finding]) -> Callable[..., Finding]:
    """Makes a nodule of a class at its place."""

    def make(name: str, at: str | None = None, n: int = 1, **changes: object) -> Finding:
        place = PLACES[at or name]
        return make_finding(grid, place, radius_mm=2.0, id=f"N{n}", class_name=name, **changes)

    return make


@pytest.mark.parametrize("name", PLACES)
def test_the_class_of_a_click_alone_is_named_and_has_the_first_value(
    nodule: Callable[..., Finding], name: str
) -> None:
    seen = after_click([nodule(name)], [])
    assert seen.values == {name: 1}
    assert seen.drawn == seen.nodules


def test_other_segments_are_not_touched_and_the_own_one_is_drawn_again(
    nodule: Callable[..., Finding],
) -> None:
    there = [nodule("benign", n=1), nodule("malignant", at="indeterminate", n=2)]
    seen = after_click([nodule("malignant")], there)
    assert seen.values == {"malignant": 1}
    assert [f.id for f in seen.drawn] == ["N3", "N2"]
    assert [f.id for f in seen.nodules] == ["N3", "N1", "N2"]


def test_a_nodule_that_changes_its_class_leaves_its_segment_and_keeps_its_name(
    nodule: Callable[..., Finding],
) -> None:
    there = [nodule("benign", n=1), nodule("indeterminate", n=2)]
    seen = after_click([nodule("malignant", at="benign")], there)
    assert seen.values == {"malignant": 1, "benign": 2}, "what has voxels comes first"
    assert [(f.id, f.class_name) for f in seen.nodules] == [
        ("N1", "malignant"),
        ("N2", "indeterminate"),
    ]
    assert [f.id for f in seen.drawn] == ["N1"]


def test_a_nodule_without_a_mask_is_known_by_its_place(nodule: Callable[..., Finding]) -> None:
    def bare(finding: Finding) -> Finding:
        return replace(finding, mask=None, start_ijk=None, centroid_lps_mm=None)

    seen = after_click([bare(nodule("benign"))], [nodule("benign", n=7)])
    assert [f.id for f in seen.nodules] == ["N7"]


def test_two_clicks_on_one_nodule_have_two_names(nodule: Callable[..., Finding]) -> None:
    seen = after_click([nodule("benign"), nodule("benign", n=2)], [nodule("benign", n=1)])
    assert [f.id for f in seen.nodules] == ["N1", "N2"]
