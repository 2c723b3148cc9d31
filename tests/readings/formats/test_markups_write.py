import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.findings import Characteristic, Size
from resmtnet.readings.formats.label_text import parse
from resmtnet.readings.formats.markups_write import markups, write_markups


def test_a_nodule_is_a_point_a_line_and_a_box(grid: Geometry, make_finding: Any) -> None:
    document = markups([make_finding(grid, (8, 8, 5))], grid)
    points, line, box = document["markups"]
    assert [node["type"] for node in (points, line, box)] == ["Fiducial", "Line", "ROI"]
    assert points["controlPoints"][0]["label"] == "N1 malignant 83%"
    told = "score=4.1; diameter_mm=8.2 [Res-MTNet: score 90% 3.3 to 4.8]"
    assert points["controlPoints"][0]["description"] == told
    for node in (line, box):
        assert node["controlPoints"][0]["label"] == "N1 malignant 83%"
        assert node["controlPoints"][0]["description"] == told
    assert all(node["coordinateSystem"] == "LPS" for node in document["markups"])
    assert document["@schema"].endswith("markups-schema-v1.0.3.json#")


def test_description_tells_the_solid_part_of_what_looks_part_solid(
    grid: Geometry, make_finding: Any
) -> None:
    finding = replace(
        make_finding(grid, (8, 8, 5)),
        size=Size(mean_diameter_mm=8.2, solid_component_mm=5.0),
        characteristics={"texture": Characteristic("part-solid", 3.0, {})},
    )
    described = markups([finding], grid)["markups"][0]["controlPoints"][0]["description"]
    assert described.startswith("score=4.1; diameter_mm=8.2; solid_mm=5.0 [Res-MTNet: ")
    read = parse(described)
    assert read.sizes == {"diameter_mm": 8.2}
    assert not read.problems


def test_coordinates_are_lps_of_the_nodule(grid: Geometry, make_finding: Any) -> None:
    finding = make_finding(grid, (8, 8, 5))
    points, line, box = markups([finding], grid)["markups"]
    centre = grid.ijk_to_lps((8, 8, 5))
    assert points["controlPoints"][0]["position"] == pytest.approx(centre, abs=1e-3)
    assert box["center"] == pytest.approx(centre, abs=1e-3)
    ends = np.array([point["position"] for point in line["controlPoints"]])
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(8.4, abs=1.5)
    assert ends.mean(axis=0) == pytest.approx(centre, abs=0.5)


def test_box_holds_every_voxel_of_the_mask(grid: Geometry, make_finding: Any) -> None:
    finding = make_finding(grid, (8, 8, 5))
    box = markups([finding], grid)["markups"][2]
    voxel = grid.ijk_to_lps(np.argwhere(finding.mask)[:, ::-1] + np.array(finding.start_ijk))
    assert (np.abs(voxel - box["center"]) < np.array(box["size"]) / 2).all()
    assert max(box["size"]) < 15


@pytest.mark.parametrize(
    ("n", "label"), [(1, "N2 benign 90%"), (2, "N3 indeterminate (48% malignant)")]
)
def test_label_names_class_and_its_probability(
    grid: Geometry, n: int, label: str, make_finding: Any
) -> None:
    points = markups([make_finding(grid, (8, 8, 5), n)], grid)["markups"][0]
    assert points["controlPoints"][0]["label"] == label


def test_without_a_mask_there_is_a_point_and_a_cube(grid: Geometry, make_finding: Any) -> None:
    bare = make_finding(
        grid, (8, 8, 5), mask=None, start_ijk=None, centroid_lps_mm=None,
        size=Size(equivalent_diameter_mm=6.0),
    )  # fmt: skip
    points, box = markups([bare], grid)["markups"]
    assert points["controlPoints"][0]["position"] == pytest.approx(bare.centre_lps_mm, abs=1e-3)
    assert box["size"] == [6.0, 6.0, 6.0]


def test_no_nodule_gives_an_empty_list(grid: Geometry) -> None:
    path = write_markups([], grid)
    (points,) = json.loads(path.read_text())["markups"]
    path.unlink()
    assert points["controlPoints"] == []
    assert path.suffix == ".json"


def test_ids_of_points_are_unique_in_their_list(grid: Geometry, make_finding: Any) -> None:
    findings = [make_finding(grid, (8, 8, 5), n) for n in range(3)]
    ids = [point["id"] for point in markups(findings, grid)["markups"][0]["controlPoints"]]
    assert ids == ["1", "2", "3"]
