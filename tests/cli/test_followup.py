"""`resmtnet compare`: what it prints, and what it says of a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from resmtnet import cli
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom, write_dicom_series, write_nifti
from resmtnet.followup import compare as comparing
from resmtnet.followup.registration import Lungs, Registration
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import RIGHT


@pytest.fixture
def ct(phantom: Phantom, tmp_path: Path) -> Path:
    return write_nifti(phantom, tmp_path / "phantom.nii")


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers two CTs as lying on each other, all of them right lung."""

    def register(prior: CTVolume, current: CTVolume) -> Registration:
        grid = SearchGrid.of(prior, 6.0)
        side = np.full(grid.hu.shape, RIGHT, np.uint8)
        lungs = Lungs(grid, side, side)
        return Registration(lungs, lungs, np.zeros((*side.shape, 3), np.float32), 1.0)

    monkeypatch.setattr(comparing, "register", register)


@pytest.fixture
def series(phantom: Phantom, tmp_path: Path) -> Callable[..., Path]:
    """Writes the phantom as a DICOM series of a patient and a day."""

    def write(name: str, **texts: str) -> Path:
        folder = tmp_path / name
        write_dicom_series(phantom, folder)
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            for key, text in texts.items():
                setattr(header, key, text)
            header.save_as(path)
        return folder

    return write


def test_the_prior_of_each_nodule_is_printed(ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dates = ["--prior-date", "2024-01-31", "--date", "2024-07-29"]
    asked = ["compare", str(ct), str(ct), "--at", "-75,0,20", *dates]
    assert cli.run([*asked, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    (nodule,) = document["current"]["nodules"]
    assert nodule["prior"]["status"] == "paired"
    assert nodule["prior"]["interval_days"] == 180
    assert nodule["prior"]["change"]["volume_mm3"]["percent"] == pytest.approx(0, abs=3)
    assert cli.run(asked) == 0
    text = capsys.readouterr().out
    assert "Prior CT 2024-01-31, current CT 2024-07-29, 180 days" in text
    assert "N1 of the prior CT: stable" in text
    assert "volume doubling time" not in text
    assert "not a medical device" in text


def test_without_dates_it_says_what_is_missing(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["compare", str(ct), str(ct), "--prior-at", "-75,0,20"]) == 0
    text = capsys.readouterr().out
    assert "no doubling time: the dates of both CTs are needed" in text


def test_the_category_of_the_follow_up_is_told(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dates = ["--prior-date", "2024-01-31", "--date", "2024-07-29"]
    context = ["--context", "screening_followup", "--prior-category", "4A"]
    asked = ["compare", str(ct), str(ct), "--at", "-75,0,20", *dates, *context, "--json"]
    assert cli.run(asked) == 0
    (nodule,) = json.loads(capsys.readouterr().out)["current"]["nodules"]
    assert nodule["guidelines"]["lung_rads"]["category"] == "3"
    assert cli.run(asked[:-1]) == 0
    assert "Lung-RADS 3" in capsys.readouterr().out


def test_a_picture_and_an_sr_with_the_tracking_uid_of_the_prior_are_written(
    series: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = series("before", PatientID="P", AcquisitionDate="20240131", StudyDate="20240131")
    now = series("now", PatientID="P", AcquisitionDate="20240729", StudyDate="20240729")
    files = ["--picture", str(tmp_path / "a.png"), "--sr", str(tmp_path / "a.dcm")]
    asked = ["compare", str(before), str(now), "--at", "-75,0,20", *files, "--json"]
    assert cli.run(asked) == 0
    (nodule,) = json.loads(capsys.readouterr().out)["current"]["nodules"]
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    assert nodule["prior"]["tracking_uid"] in str(pydicom.dcmread(tmp_path / "a.dcm"))
    assert nodule["prior"]["interval_days"] == 180


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"PatientID": "P"}, {"PatientID": "Q"}, "--any-patient"),
        ({"StudyDate": "20240729"}, {"StudyDate": "20240131"}, "earlier CT first"),
    ],
)
def test_two_patients_and_the_wrong_order_are_refused_in_one_line(
    before: dict[str, str],
    now: dict[str, str],
    said: str,
    series: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for texts in (before, now):
        for name in ("AcquisitionDate", "SeriesDate", "StudyDate"):
            texts.setdefault(name, texts.get("StudyDate", "20240131"))
    paths = str(series("a", **before)), str(series("b", **now))
    assert cli.run(["compare", *paths, "--at", "-75,0,20"]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--date", "soon"], "--date"),
        (["--picture", "a.jpg"], ".png"),
        (["--at", "1,2"], "three numbers"),
        (["--prior-at", "1,2,3000"], "outside the CT"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    options: list[str], said: str, ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["compare", str(ct), str(ct), *options]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
