"""Small CTs in every format, written by pydicom, nibabel and ITK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def small_hu() -> np.ndarray:
    """int16 [k, j, i] = (6, 7, 8): air above, tissue with a trace of its index below."""
    k, j, i = np.indices((6, 7, 8))
    hu = 100 * k + 10 * j + i - 300
    hu[:, :3] -= 600
    return hu.astype(np.int16)


@pytest.fixture(scope="session")
def oblique() -> np.ndarray:
    """Direction (3, 3) of an oblique grid: no axis is one of the patient's."""
    a, b = np.radians([20.0, -35.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


@pytest.fixture(scope="session")
def write_series() -> Callable[..., list[Path]]:
    return _write_series


def _write_series(
    folder: Path,
    hu: np.ndarray,
    spacing_ijk_mm: tuple[float, float, float] = (0.5, 0.75, 2.0),
    origin_lps_mm: tuple[float, float, float] = (10.0, -20.0, -50.0),
    direction: np.ndarray | None = None,
    edit: Callable[[Dataset, int], None] | None = None,
    slope: float = 1.0,
    intercept: float = -1024.0,
    stored_type: str = "<u2",
    syntax: str = ExplicitVRLittleEndian,
    series_uid: str | None = None,
    order: list[int] | None = None,
) -> list[Path]:
    """Writes hu [k, j, i] as one file per slice, named in `order`; returns the files by k."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = np.eye(3) if direction is None else direction
    series_uid = series_uid or generate_uid()
    names = order if order is not None else list(range(len(hu)))
    paths = []
    for k, plane in enumerate(hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = syntax
        path = folder / f"image{names[k]:03d}.dcm"
        ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.Modality = "CT"
        ds.SeriesDescription = "Thorax"
        ds.StudyInstanceUID = generate_uid()
        ds.SeriesInstanceUID = series_uid
        ds.InstanceNumber = k + 1
        position = np.asarray(origin_lps_mm) + axes[:, 2] * spacing_ijk_mm[2] * k
        ds.ImagePositionPatient = [f"{x:.8f}"[:16] for x in position]
        ds.ImageOrientationPatient = [f"{x:.10f}"[:16] for x in axes[:, :2].T.ravel()]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing = [spacing_ijk_mm[1], spacing_ijk_mm[0]]
        dtype = np.dtype(stored_type)
        ds.BitsAllocated = ds.BitsStored = 8 * dtype.itemsize
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(dtype.kind == "i")
        ds.RescaleIntercept, ds.RescaleSlope = intercept, slope
        stored = np.rint((plane.astype(float) - intercept) / slope).astype(dtype)
        ds.PixelData = stored.tobytes()
        ds["PixelData"].VR = "OW"
        ds.is_little_endian = dtype.byteorder != ">"
        ds.is_implicit_VR = syntax == pydicom.uid.ImplicitVRLittleEndian
        if edit is not None:
            edit(ds, k)
        pydicom.dcmwrite(path, ds, write_like_original=False)
        paths.append(path)
    return paths
