"""Writers of small CTs that are odd in one way, as scanners, archives and scripts make them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

NI, NJ, NK = 24, 20, 12
SPACING_MM = (0.8, 0.7, 2.0)
ORIGIN_LPS_MM = (-9.0, -7.0, -11.0)
AFFINE_RAS = np.diag([-0.8, -0.7, 2.0, 1.0])
AFFINE_RAS[:3, 3] = (9.0, 7.0, -11.0)


def chest(seed: int = 0) -> np.ndarray:
    """int16 HU [k, j, i]: lung in a soft wall, with a ball and noise of its own."""
    k, j, i = np.meshgrid(np.arange(NK), np.arange(NJ), np.arange(NI), indexing="ij")
    hu = np.where(np.hypot(i - 12, j - 10) > 9, 40.0, -850.0)
    hu[(i - 12) ** 2 + (j - 10) ** 2 + (k - 6) ** 2 <= 9] = 30
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    return np.rint(hu + noise).astype(np.int16)


def write_slice(
    hu: np.ndarray, k: int, path: Path, z_mm: float | None = None, **changes: Any
) -> FileDataset:
    """Write slice k of a volume as a CT image; changes are elements by keyword, None deletes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{zlib.crc32(str(path).encode())}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientID = "CT", "SYNTHETIC"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
    ds.AcquisitionNumber, ds.InstanceNumber = 1, k + 1
    z = ORIGIN_LPS_MM[2] + k * SPACING_MM[2] if z_mm is None else z_mm
    ds.ImagePositionPatient = [*ORIGIN_LPS_MM[:2], z]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = NJ, NI, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = (hu[k].astype(np.int32) + 1024).astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds["PixelData"].VR = "OW"
    ds.save_as(path, write_like_original=False)
    return ds


def write_series(
    folder: Path,
    hu: np.ndarray,
    prefix: str = "a",
    z_mm: Sequence[float] | None = None,
    change: Callable[[int], dict[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """Write a volume as files prefix000.dcm and so on; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(hu) if z_mm is None else len(z_mm)):
        given = {**changes, **(change(k) if change else {})}
        z = None if z_mm is None else z_mm[k]
        write_slice(hu, k % len(hu), folder / f"{prefix}{k:03d}.dcm", z, **given)
    return folder


def without_meta_header(folder: Path, implicit: bool) -> None:
    """Take preamble and file meta information from each file of a folder."""
    from pydicom import dcmread

    for path in folder.iterdir():
        ds = dcmread(path)
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, implicit
        write_dataset(stream, ds)
        path.write_bytes(stream.getvalue())


def write_nifti(
    path: Path, hu: np.ndarray, affine: np.ndarray = AFFINE_RAS, version: int = 1
) -> Path:
    """Write a NIfTI file with qform and sform of one affine."""
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(hu.T, affine)
    image.set_qform(affine, 1)
    nib.save(image, path)
    return path


NRRD_GRID = (
    f"space directions: ({SPACING_MM[0]},0,0) (0,{SPACING_MM[1]},0) (0,0,{SPACING_MM[2]})\n"
    f"space origin: ({ORIGIN_LPS_MM[0]},{ORIGIN_LPS_MM[1]},{ORIGIN_LPS_MM[2]})\n"
)
META_GRID = (
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    f"Offset = {ORIGIN_LPS_MM[0]} {ORIGIN_LPS_MM[1]} {ORIGIN_LPS_MM[2]}\n"
    f"ElementSpacing = {SPACING_MM[0]} {SPACING_MM[1]} {SPACING_MM[2]}\n"
)


def write_nrrd(path: Path, voxels: np.ndarray, grid: str = NRRD_GRID, **options: str) -> Path:
    """Write a NRRD file of int16 or uint8 voxels [k, j, i]; options: space, encoding, extra."""
    kind = {"int16": "short", "uint8": "unsigned char"}[voxels.dtype.name]
    sizes = " ".join(str(n) for n in voxels.shape[::-1])
    space = options.get("space", "space: left-posterior-superior\n")
    encoding = options.get("encoding", "raw")
    head = (
        f"NRRD0005\ntype: {kind}\ndimension: {voxels.ndim}\n{space}sizes: {sizes}\n{grid}"
        f"endian: little\nencoding: {encoding}\n{options.get('extra', '')}\n"
    )
    data = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(head.encode() + (gzip.compress(data) if encoding == "gzip" else data))
    return path


def write_meta(
    path: Path, hu: np.ndarray, grid: str = META_GRID, compressed: bool = False, data: str = "LOCAL"
) -> Path:
    """Write a MetaImage of int16 voxels; data names the file of the voxels, which is not made."""
    raw = hu.astype("<i2").tobytes()
    packed = zlib.compress(raw) if compressed else raw
    sizes = " ".join(str(n) for n in hu.shape[::-1])
    told = f"CompressedData = True\nCompressedDataSize = {len(packed)}\n" if compressed else ""
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"{told}{grid}DimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = {data}\n"
    )
    path.write_bytes(head.encode() + (packed if data == "LOCAL" else b""))
    return path


def write_seg_nrrd(path: Path, layers: Sequence[np.ndarray], fields: dict[str, str]) -> Path:
    """Write a .seg.nrrd of 1 mm voxels at the origin: one layer, or several as a list axis."""
    many = len(layers) > 1
    voxels = np.stack(layers, -1) if many else layers[0]
    nk, nj, ni = layers[0].shape
    head = [
        *("NRRD0004", "type: unsigned char", f"dimension: {4 if many else 3}"),
        *("space: left-posterior-superior",),
        f"sizes: {f'{len(layers)} ' if many else ''}{ni} {nj} {nk}",
        f"space directions: {'none ' if many else ''}(1,0,0) (0,1,0) (0,0,1)",
        *(f"kinds: {'list ' if many else ''}domain domain domain", "encoding: gzip"),
        *("space origin: (0,0,0)", *(f"{name}:={value}" for name, value in fields.items())),
    ]
    text = "\n".join(head) + "\n\n"
    path.write_bytes(text.encode() + gzip.compress(voxels.astype(np.uint8).tobytes()))
    return path


def ball(shape_kji: tuple[int, int, int], centre_ijk: Sequence[float], radius: float) -> np.ndarray:
    """bool [k, j, i]: the voxels of a ball, in voxels."""
    k, j, i = np.indices(shape_kji)
    ci, cj, ck = centre_ijk
    return np.asarray((i - ci) ** 2 + (j - cj) ** 2 + (k - ck) ** 2 <= radius**2)


HTJ2K = (
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
    "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH4AAf+TwAAmw/wFB3QA"
    "AADAABLAABNAABIA9ACHdABY/AKHdAAAx3QAwAATQAAVEAAFSMLAAAOUAALKJ0EAY5QABkgRx1EAo5QAwAArIAAV0AAJ"
    "wADAiQECCKAAsAJ2APe9z42K5IfPwFKBTLYAwAn+4IO0AP/Z"
)
"""An image of 8 x 8 words in base64, encoded by OpenJPH: word n is n * 17 % 900 + 100."""
