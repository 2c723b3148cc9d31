"""Pseudonyms of patients, by which training keeps the images of one patient together."""

from __future__ import annotations

from pathlib import Path

from resmtnet.ct.dicom_header import is_dicom_file
from resmtnet.ct.image_file import image_suffix
from resmtnet.patients import pseudonym


def patient_of(volume: Path) -> str | None:
    """The pseudonym of the patient of a DICOM series; None where no PatientID is known.

    It is a hash without a key, so whoever has a list of PatientIDs can find the patient: it
    belongs where the images are.

    Args:
        volume: what `CTVolume.open` takes.
    """
    if image_suffix(volume) is not None:
        return None
    files = sorted(volume.iterdir()) if volume.is_dir() else [volume]
    file = next((path for path in files if path.is_file() and is_dicom_file(path)), None)
    if file is None:
        return None
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
    except (InvalidDicomError, OSError, ValueError):
        return None
    return pseudonym(str(header.get("PatientID") or ""))
