"""What 3D Slicer's own code saves of a reader's corrections is understood."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.measure import measure
from resmtnet.findings import Finding
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.formats.class_mask import write_ct, write_mask
from resmtnet.readings.formats.draft import ParsedLabel
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.markups_write import write_markups
from slicer_nodules import own_packages_only, slicer_nodule

CLASSES = (("malignant", 0.83), ("indeterminate", 0.5))


@pytest.fixture(scope="module")
def findings(grid: Geometry) -> tuple[Finding, ...]:
    """N1 malignant and N2 indeterminate."""
    return tuple(slicer_nodule(grid, n, name, p) for n, (name, p) in enumerate(CLASSES))


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
    done = subprocess.run(
        [str(slicer_python), str(script), *given],
        env=own_packages_only(),
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
