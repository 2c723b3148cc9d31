"""Writes a phantom as NIfTI, as a DICOM CT series, or as a studies folder with its truth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from resmtnet.ct.phantom.build import Phantom, make_phantom
from resmtnet.errors import InputError

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
FORMATS = ("nifti", "dicom")
TRUTH_SCHEMA = "resmtnet.phantom/1"

_INTERCEPT_HU = -1024
_DATE, _TIME = "20200101", "120000"


@dataclass(frozen=True)
class StudyPaths:
    """What write_study_folder wrote."""

    image: Path
    """The NIfTI file, or the folder of the DICOM series."""
    truth: Path
    """JSON of what is true of the nodules, in a hidden folder that no datastore lists."""


def write_nifti(phantom: Phantom, path: str | Path) -> Path:
    """Write the CT as NIfTI (.nii or .nii.gz), int16 HU; NIfTI's own frame is RAS."""
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path.name}: a NIfTI file is named .nii or .nii.gz")
    geometry = phantom.geometry
    affine = np.eye(4)
    affine[:3, :3] = geometry.direction * geometry.spacing_mm
    affine[:3, 3] = geometry.origin_lps_mm
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    image = nib.Nifti1Image(np.ascontiguousarray(phantom.hu.transpose(2, 1, 0)), ras)
    image.set_qform(ras, code=1)
    image.set_sform(ras, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_dicom_series(
    phantom: Phantom, folder: str | Path, patient_id: str | None = None
) -> list[Path]:
    """Write the CT as one CT Image Storage file per slice; the same phantom gives the same UIDs.

    Args:
        phantom: what to write.
        folder: made if it is not there.
        patient_id: Patient ID (0010,0020); None: PHANTOM-<seed>.

    Returns:
        The files, from the first slice (k = 0) to the last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    patient_id = patient_id or f"PHANTOM-{phantom.seed}"
    digest = _digest(phantom, patient_id)
    paths = []
    for k in range(phantom.hu.shape[0]):
        path = folder / f"IM{k + 1:04d}.dcm"
        _slice_dataset(phantom, k, patient_id, digest).save_as(path, write_like_original=False)
        paths.append(path)
    return paths


def series_uid(phantom: Phantom, patient_id: str | None = None) -> str:
    """Return the SeriesInstanceUID that write_dicom_series gives."""
    return _uid(_digest(phantom, patient_id or f"PHANTOM-{phantom.seed}"), "series")


def write_study_folder(
    out: str | Path,
    seed: int = 0,
    format: str = "nifti",  # noqa: A002 - as the option of the command line is called
    phantom: Phantom | None = None,
) -> StudyPaths:
    """Write a studies folder for MONAI Label: one CT, and its truth where no viewer lists it.

    Args:
        out: the studies folder; made if it is not there.
        seed: of make_phantom.
        format: "nifti" (OUT/phantom-SEED.nii.gz) or "dicom" (OUT/phantom-SEED/*.dcm).
        phantom: written in place of make_phantom(seed).

    Returns:
        The image, and OUT/.resmtnet/phantom-SEED.truth.json.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r} is unknown; allowed: {', '.join(FORMATS)}")
    out = Path(out)
    phantom = phantom or make_phantom(seed)
    name = f"phantom-{phantom.seed}"
    if format == "nifti":
        image, image_id = write_nifti(phantom, out / f"{name}.nii.gz"), name
    else:
        image, image_id = out / name, series_uid(phantom)
        write_dicom_series(phantom, image)
    truth = out / ".resmtnet" / f"{name}.truth.json"
    truth.parent.mkdir(parents=True, exist_ok=True)
    truth.write_text(json.dumps(truth_document(phantom, image_id), indent=1) + "\n")
    return StudyPaths(image, truth)


def truth_document(phantom: Phantom, image_id: str) -> dict[str, Any]:
    """Return what is true of a phantom, schema resmtnet.phantom/1 (LPS mm)."""
    sizes = (
        "equivalent_diameter_mm",
        "volume_mm3",
        "long_axis_mm",
        "short_axis_mm",
        "mean_diameter_mm",
        "solid_component_mm",
    )
    return {
        "schema": TRUTH_SCHEMA,
        "image_id": image_id,
        "seed": phantom.seed,
        "nodules": [
            {
                "id": f"N{number}",
                "centre_lps_mm": list(nodule.centre_lps_mm),
                "centre_ijk": phantom.geometry.lps_to_ijk(nodule.centre_lps_mm).tolist(),
                **{name: getattr(nodule, name) for name in sizes},
                "texture": nodule.texture,
                "spiculation": nodule.spiculation,
                "lobulation": nodule.lobulation,
            }
            for number, nodule in enumerate(phantom.nodules, start=1)
        ],
    }


def _digest(phantom: Phantom, patient_id: str) -> str:
    geometry = phantom.geometry
    grid = (phantom.hu.shape, geometry.spacing_mm, geometry.origin_lps_mm)
    digest = hashlib.sha256(repr((patient_id, grid)).encode())
    digest.update(phantom.hu.tobytes())
    return digest.hexdigest()


def _uid(digest: str, what: str) -> str:
    return str(generate_uid(entropy_srcs=[digest, what]))


def _slice_dataset(phantom: Phantom, k: int, patient_id: str, digest: str) -> FileDataset:
    """Return one slice as CT Image Storage (PS3.3 A.3), every Type 1 and 2 attribute included."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE_STORAGE
    meta.MediaStorageSOPInstanceUID = _uid(digest, f"slice {k}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    attributes: dict[str, Any] = {
        # SOP Common, Patient, General Study
        "SOPClassUID": CT_IMAGE_STORAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": "PHANTOM^SYNTHETIC",
        "PatientID": patient_id,
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": _uid(digest, "study"),
        "StudyDate": _DATE,
        "StudyTime": _TIME,
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "StudyDescription": "Synthetic chest CT",
        # General Series, Frame of Reference, General Equipment
        "Modality": "CT",
        "SeriesInstanceUID": _uid(digest, "series"),
        "SeriesNumber": 1,
        "SeriesDate": _DATE,
        "SeriesTime": _TIME,
        "SeriesDescription": f"Res-MTNet phantom, seed {phantom.seed}",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": _uid(digest, "frame"),
        "PositionReferenceIndicator": "",
        "Manufacturer": "Res-MTNet phantom",
        # General Image, General Acquisition, CT Image
        "InstanceNumber": k + 1,
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
        "ContentDate": _DATE,
        "ContentTime": _TIME,
        "AcquisitionNumber": 1,
        "AcquisitionDate": _DATE,
        "AcquisitionTime": _TIME,
        "KVP": None,
        "RescaleIntercept": _INTERCEPT_HU,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": -600,
        "WindowWidth": 1500,
    }
    for keyword, value in {**attributes, **_pixel_attributes(phantom, k)}.items():
        setattr(dataset, keyword, value)
    return dataset


def _pixel_attributes(phantom: Phantom, k: int) -> dict[str, Any]:
    """Return Image Plane and Image Pixel of slice k; 12 bits hold -1024 to 3071 HU."""
    geometry = phantom.geometry
    position = geometry.ijk_to_lps((0, 0, k))
    stored = (phantom.hu[k].astype(np.int32) - _INTERCEPT_HU).astype("<u2")
    return {
        "PixelSpacing": _decimals([geometry.spacing_mm[1], geometry.spacing_mm[0]]),
        "ImageOrientationPatient": _decimals(geometry.direction[:, :2].T.ravel()),
        "ImagePositionPatient": _decimals(position),
        "SliceThickness": _decimals([geometry.spacing_mm[2]])[0],
        "SpacingBetweenSlices": _decimals([geometry.spacing_mm[2]])[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": stored.tobytes(),
    }


def _decimals(values: Any) -> list[str]:
    """Return numbers as Decimal Strings: at most 16 characters."""
    return [f"{float(value):.6f}"[:16] for value in values]
