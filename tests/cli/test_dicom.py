"""`resmtnet export sr|seg|text`: readings of a folder of DICOM series as files that are valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_results import assert_valid
from resmtnet.cli import run
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.readings.dicom.author import author_of
from resmtnet.readings.dicom.sr_read import read_sr
from resmtnet.readings.formats.label_map import write_mask
from resmtnet.readings.location import database_in
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore


@pytest.fixture
def studies(phantom: Phantom, tmp_path: Path, ball: object) -> Path:
    folder = tmp_path / "studies"
    write_dicom_series(phantom, folder / "patient" / "ct")
    ct = CTVolume.open(folder / "patient" / "ct")
    centre = tuple(float(x) for x in ct.geometry.ijk_to_lps((40, 40, 32)))
    mask, start = ball(ct.geometry, (40, 40, 32), 4.0)  # type: ignore[operator]
    write_mask(mask, ct.geometry.sub(start, mask.shape[::-1]), tmp_path / "mask.nrrd")
    with ReadingStore.open(database_in(folder)) as store:
        kept = store.keep_mask(tmp_path / "mask.nrrd")
        said = {"class_name": "malignant", "malignancy": 4, "sizes": {"long_axis_mm": 9.0}}
        image = series_uid(phantom)
        store.add(Reading(image, "ann", centre, mask=kept, **said))  # type: ignore[arg-type]
        store.add(Reading(image, "bob", centre, class_name="not_a_nodule"))
    return folder


def test_each_reader_has_a_valid_sr_and_who_drew_a_nodule_a_seg(
    studies: Path, phantom: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "sr", "--studies", str(studies), "--out", str(tmp_path / "sr")]) == 0
    files = sorted((tmp_path / "sr").iterdir())
    assert [file.name.rpartition("-")[2] for file in files] == ["ann.sr.dcm", "bob.sr.dcm"]
    ann = dcmread(files[0])
    assert_valid(ann, tmp_path / "ann.dcm")
    assert author_of(ann) == "ann"
    assert read_sr(ann).groups[0].comments[0] == "N1 malignant | score 4 | 9.0 mm"
    capsys.readouterr()
    seg = ["export", "seg", "--studies", str(studies), "--out", str(tmp_path / "seg"), "--json"]
    assert run(seg) == 0
    told = json.loads(capsys.readouterr().out)
    (file,) = told["files"]
    assert dcmread(file).SegmentSequence[0].SegmentLabel == "N1 malignant"


def test_the_report_text_names_the_confirmed_nodules(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "text", "--studies", str(studies)]) == 0
    text = capsys.readouterr().out
    assert "not for diagnostic use" in text


def test_retracting_needs_a_pacs(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["retract", "--studies", str(studies), "--image", "1.2"]) == 2
    assert "DICOMweb" in capsys.readouterr().err


def test_readers_whose_names_look_alike_do_not_overwrite_one_another(
    studies: Path, phantom: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReadingStore.open(database_in(studies)) as store:
        (centre,) = {one.centre_lps_mm for one in store.readings()}
        for reader in ("Müller", "Möller"):
            store.add(Reading(series_uid(phantom), reader, centre, class_name="benign"))
    command = ["export", "sr", "--studies", str(studies), "--out", str(tmp_path / "sr"), "--json"]
    assert run(command) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    names = {author_of(dcmread(file)) for file in files}
    assert names == {"ann", "bob", "Müller", "Möller"}
