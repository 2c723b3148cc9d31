"""Dates and patients: from DICOM or by hand; a wrong order and two patients are refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pydicom
import pytest

from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.errors import InputError
from resmtnet.followup.visit import Visit, days_between, parse_day


@pytest.fixture
def series(phantom: Phantom, tmp_path: Path) -> Path:
    write_dicom_series(phantom, tmp_path / "ct")
    return tmp_path / "ct"


def dated(folder: Path, **texts: str) -> Visit:
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        for name in ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate"):
            if name in header:
                delattr(header, name)
        for name, text in texts.items():
            setattr(header, name, text)
        header.save_as(path)
    return Visit.of(CTVolume.open(folder))


def test_the_date_is_that_of_the_acquisition(series: Path) -> None:
    visit = dated(series, AcquisitionDate="20240131", StudyDate="20240130", PatientID="P1")
    assert visit.day == date(2024, 1, 31)
    assert visit.patient is not None


def test_without_one_it_is_that_of_the_study_and_without_any_unknown(series: Path) -> None:
    assert dated(series, StudyDate="20240130").day == date(2024, 1, 30)
    assert dated(series).day is None


def test_what_the_user_tells_goes_before_the_headers(series: Path) -> None:
    dated(series, StudyDate="20240130")
    assert Visit.of(CTVolume.open(series), "2023-05-06").day == date(2023, 5, 6)


@pytest.mark.parametrize("text", ["2024-13-01", "yesterday", "", "2024"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--date"):
        parse_day(text, "--date")


def test_days_are_counted_and_unknown_without_both_dates() -> None:
    first, second = Visit("a", date(2024, 1, 1)), Visit("b", date(2024, 3, 1))
    assert days_between(first, second) == 60
    assert days_between(Visit("a"), second) is None


def test_the_wrong_order_of_dates_is_told() -> None:
    with pytest.raises(InputError, match="earlier CT first"):
        days_between(Visit("a", date(2024, 3, 1)), Visit("b", date(2024, 1, 1)))


def test_two_patients_are_refused_unless_the_user_says_so() -> None:
    one, other = Visit("a", patient="P"), Visit("b", patient="Q")
    with pytest.raises(InputError, match="different patients"):
        days_between(one, other)
    assert days_between(one, other, any_patient=True) is None
    assert days_between(one, Visit("b")) is None
