"""DICOM SR: 50 varied nodules are valid and read back equal; tid1500reader reads them too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid

from dicom_results import MODEL, assert_valid, lines_close, varied_nodules
from resmtnet.readings.dicom.author import author_of
from resmtnet.readings.dicom.identity import Author, ObjectPlace, new_place
from resmtnet.readings.dicom.nodule import ResultNodule
from resmtnet.readings.dicom.seg_write import write_seg
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_read import DrawnShape, nodules_of, read_sr
from resmtnet.readings.dicom.sr_write import editable_axes, write_sr
from resmtnet.readings.patients import patient_of


@pytest.fixture(scope="module")
def nodules(source: SourceSeries) -> list[ResultNodule]:
    return varied_nodules(source.geometry, 50, source.series_uid)


def test_fifty_nodules_are_read_back_as_they_were_written(
    source: SourceSeries, nodules: list[ResultNodule], tmp_path: Path
) -> None:
    sr = write_sr(nodules, source, MODEL, new_place(1))
    assert_valid(sr, tmp_path / "sr.dcm")
    read = {one.name: one for one in nodules_of(read_sr(sr), source)}
    assert set(read) == {one.name for one in nodules}
    for told in nodules:
        got = read[told.name]
        assert got.tracking_uid == told.tracking_uid or editable_axes(told, source) is None
        assert got.class_name == told.class_name
        assert got.probability_malignant == told.probability_malignant
        assert got.malignancy == told.malignancy
        assert got.sizes == pytest.approx(dict(told.sizes), rel=1e-5)
        assert got.characteristics == told.characteristics
        assert got.category == told.category
        assert got.warnings == told.warnings
        assert got.label == told.label
        if editable_axes(told, source) is not None:
            assert lines_close(got.long_axis_lps_mm, told.long_axis_lps_mm)
            assert lines_close(got.short_axis_lps_mm, told.short_axis_lps_mm)
    assert sum(editable_axes(one, source) is not None for one in nodules) >= 40


def test_an_sr_of_a_model_says_that_it_is_research_and_unverified(
    source: SourceSeries, nodules: list[ResultNodule]
) -> None:
    sr = write_sr(nodules[:2], source, MODEL, new_place(7))
    assert sr.SeriesNumber == 8
    assert "RESEARCH" in sr.SeriesDescription
    assert sr.VerificationFlag == "UNVERIFIED"
    whole = json.dumps(sr.to_json_dict(), default=str)
    assert "not for diagnostic use" in whole
    assert f"sha256={'ab' * 32}" in whole
    assert "111047" not in whole
    assert author_of(sr) is None


def test_an_sr_of_a_reader_names_the_reader_and_its_predecessor(
    source: SourceSeries, nodules: list[ResultNodule], tmp_path: Path
) -> None:
    first = write_sr(nodules[:2], source, MODEL, new_place(7))
    place = ObjectPlace(8, first.SeriesInstanceUID, 2, first)
    second = write_sr(nodules[:2], source, Author(reader="Ann Doe"), place)
    assert_valid(second, tmp_path / "sr.dcm")
    read = read_sr(second)
    assert author_of(second) == "Ann Doe"
    assert read.predecessors == (first.SOPInstanceUID,)


def test_tid1500reader_of_dcmqi_reads_every_group(
    source: SourceSeries, nodules: list[ResultNodule], tmp_path: Path
) -> None:
    program = shutil.which("tid1500reader", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("no tid1500reader: pip install dcmqi")
    sr = write_sr(nodules[:5], source, MODEL, new_place(1))
    sr.save_as(tmp_path / "sr.dcm")
    command = [
        program,
        "--inputDICOM",
        tmp_path / "sr.dcm",
        "--outputMetadata",
        tmp_path / "o.json",
    ]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    groups = json.loads((tmp_path / "o.json").read_text())["Measurements"]
    names = {group["TrackingIdentifier"] for group in groups}
    assert {one.name for one in nodules[:5]} <= names
    values = {
        item["quantity"]["CodeMeaning"]: float(item["value"])
        for group in groups
        if group["TrackingIdentifier"] == nodules[0].name
        for item in group["measurementItems"]
    }
    assert values["Volume"] == pytest.approx(nodules[0].sizes["volume_mm3"], rel=1e-4)


@pytest.mark.parametrize(("frame", "is_there"), [("own", True), ("", True), ("other", False)])
def test_points_of_another_frame_of_reference_are_on_no_slice(
    source: SourceSeries, frame: str, is_there: bool
) -> None:
    uid = str(source.any.FrameOfReferenceUID) if frame == "own" else frame and generate_uid()
    shape = DrawnShape(None, ((1.0, 2.0, 3.0),), uid)
    assert bool(shape.on(source)) == is_there


def test_a_series_without_meta_header_can_have_an_sr_and_a_seg(
    series: Path, tmp_path: Path, nodules: list[ResultNodule]
) -> None:
    """Some archives write the bare data set; `resmtnet find` reads it as well."""
    for file in series.iterdir():
        header = dcmread(file)
        header.file_meta, header.preamble = FileMetaDataset(), None
        header.is_little_endian, header.is_implicit_VR = True, True
        header.save_as(tmp_path / file.name, write_like_original=True)
    bare = SourceSeries.open(tmp_path)
    assert len(bare.slices) == len(SourceSeries.open(series).slices)
    assert patient_of(tmp_path) == patient_of(series) is not None
    assert read_sr(write_sr(nodules[:2], bare, MODEL, new_place(1))).groups
    assert write_seg(nodules[:2], bare, MODEL, new_place(1)).NumberOfFrames


def test_of_a_series_with_two_phases_the_slices_are_those_of_the_phase_that_is_read(
    series: Path, tmp_path: Path, nodules: list[ResultNodule]
) -> None:
    """An SR that named an image of the other phase would lie on what nobody has looked at."""
    files = sorted(series.iterdir())
    for n, file in enumerate(files):
        for phase, name in ((1, "a"), (2, "b")):
            header = dcmread(file)
            header.AcquisitionNumber, header.AcquisitionTime = phase, f"12000{phase}"
            if phase == 1:
                header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            if phase == 2 or n:  # the second phase is the larger one
                header.save_as(tmp_path / f"{name}{file.name}", write_like_original=True)
    source = SourceSeries.open(tmp_path)
    assert len(source.slices) == len(files)
    assert {one.AcquisitionNumber for one in source.slices.values()} == {2}
    named = {str(one.ReferencedSOPInstanceUID) for one in _references(write_sr(
        nodules[:3], source, MODEL, new_place(1)))}  # fmt: skip
    assert named <= {str(one.SOPInstanceUID) for one in source.slices.values()}


def _references(sr: Dataset) -> list[Dataset]:
    found = []
    for item in sr.get("ContentSequence") or ():
        found += [*(item.get("ReferencedSOPSequence") or ()), *_references(item)]
    return found
