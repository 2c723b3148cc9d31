"""3D Slicer's own code loads what the app returns: names, numbers and places arrive."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.findings import Finding
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.markups_write import write_markups
from slicer_nodules import own_packages_only, slicer_nodule

SEGMENTS = ["benign", "malignant", "indeterminate"]
RAS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def slicer_process(
    slicer_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Slicer's code in one process for all tests, and the file of what it complains of."""
    script = Path(__file__).with_name("load_results.py")
    complaints = tmp_path_factory.mktemp("slicer") / "stderr.txt"
    with (
        complaints.open("w") as file,
        subprocess.Popen(
            [str(slicer_python), str(script)],
            env=own_packages_only(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        yield process, complaints
        process.kill()


@pytest.fixture
def load(slicer_process: tuple[subprocess.Popen[str], Path], grid: Geometry) -> Callable[..., Any]:
    """Writes findings as the app does, and returns what Slicer holds after loading them."""
    process, complaints = slicer_process
    assert process.stdin is not None
    assert process.stdout is not None
    send, receive = process.stdin, process.stdout

    def run(findings: list[Finding], imported: list[str]) -> Any:
        markups, mask = write_markups(findings, grid), write_mask(findings, grid, ".nrrd")
        job = {"markups": str(markups), "mask": str(mask), "segments": imported}
        send.write(json.dumps(job) + "\n")
        send.flush()
        answers = (line for line in receive if line.startswith("RESULT "))
        answer = next(answers, None)
        markups.unlink()
        mask.unlink()
        assert answer is not None, complaints.read_text()
        return json.loads(answer.removeprefix("RESULT "))

    return run


def test_markups_keep_name_numbers_and_place(load: Any, grid: Geometry) -> None:
    findings = [slicer_nodule(grid, 0, "malignant", 0.83), slicer_nodule(grid, 1, "benign", 0.1)]
    held = load(findings, SEGMENTS)
    (points,) = held["points"]
    assert [point["label"] for point in points["points"]] == ["N1 malignant 83%", "N2 benign 90%"]
    assert points["points"][0]["description"] == (
        "score=4.1; diameter_mm=5.0 [Res-MTNet: score 90% 3.3 to 4.8]"
    )
    for finding, point in zip(findings, points["points"], strict=True):
        assert point["ras"] == pytest.approx(RAS * finding.centre_lps_mm, abs=1e-3)
    assert [line["name"] for line in held["lines"]] == ["N1 long axis", "N2 long axis"]
    assert held["lines"][0]["length"] == pytest.approx(np.hypot(5 * 0.7, 7 * 0.8), abs=1e-3)
    ends = np.array([point["ras"] for point in held["lines"][0]["points"]])
    # All slices of the box are alike, and the line lies in one of them.
    middle = (RAS * findings[0].centre_lps_mm)[:2]
    assert ends.mean(axis=0)[:2] == pytest.approx(middle, abs=1e-3)


def test_boxes_enclose_the_masks(load: Any, grid: Geometry) -> None:
    finding = slicer_nodule(grid, 0, "malignant", 0.83)
    (box,) = load([finding], SEGMENTS)["boxes"]
    index = np.argwhere(finding.mask)[:, ::-1] + np.array(finding.start_ijk)  # type: ignore[arg-type]
    voxels = grid.ijk_to_lps(index) * RAS
    assert (np.abs(voxels - box["centre"]) < np.array(box["size"]) / 2).all()


def test_each_class_lands_in_its_segment_at_its_place(load: Any, grid: Geometry) -> None:
    findings = [
        slicer_nodule(grid, 0, "malignant", 0.83),
        slicer_nodule(grid, 1, "indeterminate", 0.5),
    ]
    segments = load(findings, SEGMENTS)["segments"]
    assert {name: segments[name]["voxels"] for name in SEGMENTS} == {
        "benign": 0,
        "malignant": 105,
        "indeterminate": 105,
    }
    assert segments["malignant"]["ras"] == pytest.approx(RAS * findings[0].centre_lps_mm, abs=1e-3)


def test_a_deepgrow_click_shows_in_slicer_only_what_is_benign(load: Any, grid: Geometry) -> None:
    """Slicer takes value 1 of a deepgrow mask for the selected segment: ours is deepedit."""
    selected = ["malignant"]
    malignant = load([slicer_nodule(grid, 0, "malignant", 0.83)], selected)["segments"]
    benign = load([slicer_nodule(grid, 0, "benign", 0.1)], selected)["segments"]
    assert malignant["malignant"]["voxels"] == 0
    assert benign["malignant"]["voxels"] == 105


def test_no_nodule_and_no_mask_load_too(load: Any, grid: Geometry) -> None:
    assert load([], SEGMENTS)["points"][0]["points"] == []
    held = load([slicer_nodule(grid, 0, "benign", 0.1, masked=False)], SEGMENTS)
    assert held["lines"] == []
    assert held["boxes"][0]["size"] == pytest.approx([6.0, 6.0, 6.0])
