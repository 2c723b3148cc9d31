"""Which studies are earlier CTs of a patient, for a folder and for a PACS."""

from __future__ import annotations

from pathlib import Path

import pydicom

from resmtnet.ct.phantom import Phantom, write_dicom_series, write_nifti
from resmtnet.monai_label.study_list import ListedStudy
from resmtnet.server.study_visits import StudyVisits


def test_a_folder_tells_patient_and_date_by_the_headers_of_its_series(
    phantom: Phantom, tmp_path: Path
) -> None:
    days = {"then": "20250101", "now": "20250701", "later": "20251231"}
    for name, day in days.items():
        for path in write_dicom_series(phantom, tmp_path / name, "ONE"):
            header = pydicom.dcmread(path)
            header.StudyDate = header.SeriesDate = header.AcquisitionDate = day
            header.save_as(path)
    write_dicom_series(phantom, tmp_path / "other", "TWO")
    write_nifti(phantom, tmp_path / "nameless.nii.gz")
    files = {name: tmp_path / name for name in (*days, "other")}
    files["nameless"] = tmp_path / "nameless.nii.gz"
    read: list[str] = []

    def file_of(image: str) -> Path:
        read.append(image)
        return files[image]

    visits = StudyVisits(lambda: [ListedStudy(name, name, "") for name in files], file_of)
    found = visits.earlier("now")
    assert [one.told for one in found.of_patient] == ["2025-01-01, then"]
    assert [one.image for one in found.of_unknown] == ["nameless"]
    nameless = visits.earlier("nameless")
    assert nameless.of_patient == ()
    assert {one.image for one in nameless.of_unknown} == {"then", "now", "later", "other"}
    assert sorted(read) == sorted(files)


def test_a_pacs_tells_them_with_its_list_and_nothing_is_fetched() -> None:
    listed = [
        ListedStudy("1", "ONE, chest", "2025-01-01", "p"),
        ListedStudy("2", "ONE, chest", "2024-01-01", "p"),
        ListedStudy("3", "TWO, chest", "2024-01-01", "q"),
        ListedStudy("4", "4", ""),
        ListedStudy("5", "ONE, chest", "2025-07-01", "p"),
    ]
    found = StudyVisits(lambda: listed, None).earlier("5")
    assert [one.image for one in found.of_patient] == ["1", "2"]
    assert [one.image for one in found.of_unknown] == ["4"]
