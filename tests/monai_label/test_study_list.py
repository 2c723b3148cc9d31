"""The list of studies of the review page: names and dates, without opening any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client import DICOMwebClient
from monailabel.datastore.dicom import DICOMWebDatastore

from resmtnet.cli.demo_pacs.orthanc import (
    HOW_TO_INSTALL,
    orthanc_program,
    running_orthanc,
    send_files,
)
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.dicomweb import DicomWebDatastore
from resmtnet.monai_label.study_list import StudyList
from resmtnet.server.launch import free_port


def test_a_file_and_a_series_are_named_by_their_place(
    tmp_path: Path, phantom: Phantom, write_image: Any
) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "ct.nii.gz")
    write_dicom_series(phantom, studies / "patient" / "chest", "PATIENT")
    store = StudiesDatastore(str(studies), auto_reload=False)
    listed = {study.name: study for study in StudyList(lambda: store)()}
    assert set(listed) == {"ct.nii.gz", "patient/chest"}
    assert listed["ct.nii.gz"].image == "ct"
    assert listed["patient/chest"].image == series_uid(phantom, "PATIENT")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", study.date) for study in listed.values())


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty PACS."""
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    with running_orthanc(tmp_path / "orthanc", free_port()) as url:
        yield url


def test_a_series_of_a_pacs_is_named_by_its_patient_and_not_downloaded(
    orthanc: str, phantom: Phantom, tmp_path: Path
) -> None:
    send_files(orthanc, write_dicom_series(phantom, tmp_path / "dicom", "PATIENT-7"))
    client = DICOMwebClient(f"{orthanc}/dicom-web")
    stock = DICOMWebDatastore(client, {"Modality": "CT"}, str(tmp_path / "cache"))
    stock._observer.stop()
    store = DicomWebDatastore(stock)
    (study,) = StudyList(lambda: store)()
    assert study.image == series_uid(phantom, "PATIENT-7")
    assert study.name.startswith("PATIENT-7")
    assert re.fullmatch(r"(\d{4}-\d\d-\d\d)?", study.date)
    assert not list((tmp_path / "cache").rglob("*.dcm"))
