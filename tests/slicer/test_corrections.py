"""What 3D Slicer's own code saves of a reader's corrections is understood."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.measure import measure
from resmtnet.findings import Finding, Malignancy, Size, Uncertainty
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.formats.class_mask import write_ct, write_mask
from resmtnet.readings.formats.draft import ParsedLabel
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.markups_write import write_markups

CLASSES = (("malignant", 0.83), ("indeterminate", 0.5))


@pytest.fixture(scope="module")
def grid() -> Geometry:
    """A grid with k downwards and turned axes, so that no frame is right by chance."""
    angle = 0.3
    axes = [[np.cos(angle), np.sin(angle), 0], [np.sin(angle), -np.cos(angle), 0], [0, 0, -1]]
    return Geometry((40, 36, 20), (0.7, 0.8, 2.0), (20.0, -30.0, 50.0), np.array(axes))


@pytest.fixture(scope="module")
def findings(grid: Geometry) -> tuple[Finding, ...]:
    """N1 malignant and N2 indeterminate, boxes of 5 x 7 x 3 voxels."""
    found = []
    for n, (name, probability) in enumerate(CLASSES):
        start = (6 + 12 * n, 8, 5)
        centre = tuple(float(x) for x in grid.ijk_to_lps(np.add(start, (2, 3, 1))))
        found.append(
            Finding(
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
                centroid_lps_mm=centre,  # type: ignore[arg-type]
                mask=np.ones((3, 7, 5), np.uint8),
                start_ijk=start,
            )
        )
    return tuple(found)


@dataclass
class Saved:
    """What Slicer has written, and what the app had answered."""

    folder: Path
    label_info: Any
    answers: AnswerLog

    def mask(self, name: str) -> ParsedLabel:
        found = read_label_map(self.folder / name)
        info, exact = (found.segments, True) if found.segments else (self.label_info, False)
        known = self.answers.known("ct", "ann")
        more = {"exact": exact, "resampled": found.resampled}
        return from_mask(found.mask, found.geometry, info, known, **more)

    def markups(self, frame: str) -> ParsedLabel:
        """All nodes in one document, as the plugin puts its ROIs together."""
        files = sorted((self.folder / frame).glob("*.json"))
        nodes = [json.loads(file.read_text())["markups"][0] for file in files]
        assert {node["coordinateSystem"] for node in nodes} == {frame}
        known = self.answers.known("ct", "ann")
        return from_markups({"markups": nodes}, known, self.answers.drawn("ct"))


@pytest.fixture(scope="module")
def saved(
    slicer_python: Path,
    grid: Geometry,
    findings: tuple[Finding, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Saved:
    folder = tmp_path_factory.mktemp("slicer")
    hu = np.full(grid.shape_kji, -800, np.int16)
    x, y, z = grid.origin_lps_mm
    ct = CTVolume.from_array(hu, grid.spacing_mm[::-1], (x, y, z), grid.direction)
    write_ct(ct, folder / "ct.nrrd")
    files = [write_markups(findings, grid), write_mask(findings, grid, ".nrrd")]
    script = Path(__file__).with_name("save_corrections.py")
    given = [*map(str, files), str(folder / "ct.nrrd"), str(folder)]
    # The interpreter has packages of its own.
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(slicer_python), str(script), *given],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    for file in files:
        file.unlink()
    assert done.returncode == 0, done.stderr
    answers = AnswerLog(folder / "answers")
    answers.remember("ct", GivenAnswer("ann", "2", "ab", grid, findings))
    return Saved(folder, json.loads(done.stdout.splitlines()[-1]), answers)


@pytest.mark.parametrize("name", ["label.nrrd", "label.nii.gz", "segments.seg.nrrd"])
def test_a_renamed_segment_is_understood_from_every_file_that_slicer_writes(
    saved: Saved, name: str
) -> None:
    """The idx of the plugin counts the scribbles, which are not in the file."""
    assert saved.label_info[1] == {"name": "Benign 2", "idx": 3}
    said = saved.mask(name)
    assert sorted((d.name, d.class_name) for d in said.drafts) == [
        ("N1", "benign"),
        ("N2", "indeterminate"),
    ]
    assert not any(draft.sizes for draft in said.drafts)
    assert said.not_understood == ()


def test_segments_that_overlap_lie_in_layers_and_the_later_one_holds(saved: Saved) -> None:
    assert "overlap" in read_label_map(saved.folder / "layers.seg.nrrd").warnings[0]
    drafts = saved.mask("layers.seg.nrrd").drafts
    assert sorted((d.name, d.class_name) for d in drafts) == [
        ("N1", "not_a_nodule"),
        ("N2", "indeterminate"),
    ]


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
def test_renamed_points_and_longer_lines_are_understood_in_either_frame(
    saved: Saved, grid: Geometry, findings: tuple[Finding, ...], frame: str
) -> None:
    said = saved.markups(frame)
    first, second = said.drafts
    assert (first.name, first.class_name, first.malignancy) == ("N1", "benign", 2)
    assert first.characteristics == {"texture": 5}
    assert first.centre_lps_mm == pytest.approx(findings[0].centre_lps_mm, abs=1e-3)
    sub = grid.sub(findings[0].start_ijk, (5, 7, 3))  # type: ignore[arg-type]
    measured = measure(np.ones((3, 7, 5)), sub)
    assert measured is not None
    assert first.sizes == pytest.approx({"long_axis_mm": 1.5 * measured.long_axis_mm}, abs=1e-3)
    assert (second.name, second.class_name) == ("N2", "indeterminate")
    assert second.unchanged
    assert said.not_understood == ()
    assert said.warnings == ()
