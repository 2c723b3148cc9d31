"""3D Slicer's own code loads what the app returns: names, numbers and places arrive."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.findings import Finding, Malignancy, Size, Uncertainty
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.markups_write import write_markups

SEGMENTS = ["benign", "malignant", "indeterminate"]
RAS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture
def grid() -> Geometry:
    """A grid with k downwards and turned axes, so that no frame is right by chance."""
    angle = 0.3
    axes = [[np.cos(angle), np.sin(angle), 0], [np.sin(angle), -np.cos(angle), 0], [0, 0, -1]]
    return Geometry((40, 36, 20), (0.7, 0.8, 2.0), (20.0, -30.0, 50.0), np.array(axes))


def nodule(grid: Geometry, n: int, name: str, probability: float, masked: bool = True) -> Finding:
    """The n-th nodule: a box of 5 x 7 x 3 voxels."""
    start = (6 + 12 * n, 8, 5)
    centre = tuple(float(x) for x in grid.ijk_to_lps(np.add(start, (2, 3, 1))))
    mask = np.ones((3, 7, 5), np.uint8)
    return Finding(
        id=f"N{n + 1}",
        source="point",
        centre_lps_mm=centre,  # type: ignore[arg-type]
        centre_ijk=(0.0, 0.0, 0.0),
        class_name=name,
        probability_malignant=probability,
        malignancy=Malignancy(4.1, (3.3, 4.8), (0.0, 0.0, 0.2, 0.5, 0.3)),
        size=Size(long_axis_mm=6.6, mean_diameter_mm=5.0, equivalent_diameter_mm=6.0),
        characteristics={},
        uncertainty=Uncertainty(0.0, 0.0, 0.0),
        guidelines={},
        centroid_lps_mm=centre if masked else None,  # type: ignore[arg-type]
        mask=mask if masked else None,
        start_ijk=start if masked else None,
    )


@pytest.fixture
def load(slicer_python: Path, grid: Geometry, tmp_path: Path) -> Callable[..., Any]:
    """Writes findings as the app does, and returns what Slicer holds after loading them."""

    def run(findings: list[Finding], imported: list[str]) -> Any:
        script = Path(__file__).with_name("load_results.py")
        files = [write_markups(findings, grid), write_mask(findings, grid, ".nrrd")]
        command = [str(slicer_python), str(script), *map(str, files), *imported]
        # The interpreter has packages of its own.
        environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
        finally:
            for file in files:
                file.unlink()
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_markups_keep_name_numbers_and_place(load: Any, grid: Geometry) -> None:
    findings = [nodule(grid, 0, "malignant", 0.83), nodule(grid, 1, "benign", 0.1)]
    held = load(findings, SEGMENTS)
    (points,) = held["points"]
    assert [point["label"] for point in points["points"]] == ["N1 malignant 83%", "N2 benign 90%"]
    assert points["points"][0]["description"] == "score=4.1; diameter_mm=5.0"
    for finding, point in zip(findings, points["points"], strict=True):
        assert point["ras"] == pytest.approx(RAS * finding.centre_lps_mm, abs=1e-3)
    assert [line["name"] for line in held["lines"]] == ["N1 long axis", "N2 long axis"]
    assert held["lines"][0]["length"] == pytest.approx(np.hypot(5 * 0.7, 7 * 0.8), abs=1e-3)
    ends = np.array([point["ras"] for point in held["lines"][0]["points"]])
    # All slices of the box are alike, and the line lies in one of them.
    middle = (RAS * findings[0].centre_lps_mm)[:2]
    assert ends.mean(axis=0)[:2] == pytest.approx(middle, abs=1e-3)


def test_boxes_enclose_the_masks(load: Any, grid: Geometry) -> None:
    finding = nodule(grid, 0, "malignant", 0.83)
    (box,) = load([finding], SEGMENTS)["boxes"]
    index = np.argwhere(finding.mask)[:, ::-1] + np.array(finding.start_ijk)  # type: ignore[arg-type]
    voxels = grid.ijk_to_lps(index) * RAS
    assert (np.abs(voxels - box["centre"]) < np.array(box["size"]) / 2).all()


def test_each_class_lands_in_its_segment_at_its_place(load: Any, grid: Geometry) -> None:
    findings = [nodule(grid, 0, "malignant", 0.83), nodule(grid, 1, "indeterminate", 0.5)]
    segments = load(findings, SEGMENTS)["segments"]
    assert {name: segments[name]["voxels"] for name in SEGMENTS} == {
        "benign": 0,
        "malignant": 105,
        "indeterminate": 105,
    }
    assert segments["malignant"]["ras"] == pytest.approx(RAS * findings[0].centre_lps_mm, abs=1e-3)


def test_a_deepgrow_click_shows_in_slicer_only_what_is_benign(load: Any, grid: Geometry) -> None:
    """Slicer takes value 1 of a deepgrow mask for the selected segment: hence click_type."""
    selected = ["malignant"]
    malignant = load([nodule(grid, 0, "malignant", 0.83)], selected)["segments"]
    benign = load([nodule(grid, 0, "benign", 0.1)], selected)["segments"]
    assert malignant["malignant"]["voxels"] == 0
    assert benign["malignant"]["voxels"] == 105


def test_no_nodule_and_no_mask_load_too(load: Any, grid: Geometry) -> None:
    assert load([], SEGMENTS)["points"][0]["points"] == []
    held = load([nodule(grid, 0, "benign", 0.1, masked=False)], SEGMENTS)
    assert held["lines"] == []
    assert held["boxes"][0]["size"] == pytest.approx([6.0, 6.0, 6.0])
