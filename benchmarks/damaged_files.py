"""Small valid files of every kind that the package reads, and random damage to them."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import struct
import zlib

import numpy as np

_SIZE = (9, 8, 7)
"""Voxels of the valid files, i j k."""

Files = dict[str, bytes]
"""Content by file name; the first is the one that is opened."""


# -- valid files -----------------------------------------------------------------------------------


def hu() -> np.ndarray:
    """int16 [k, j, i], HU of lung with a ball."""
    k, j, i = np.indices(_SIZE[::-1])
    ball = (i - 4) ** 2 + (j - 4) ** 2 + (k - 3) ** 2 <= 5
    return np.where(ball, 30, -850).astype(np.int16)


def dicom_files(syntax: str) -> Files:
    """A series of four slices; one of them is compressed for the syntaxes that are."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    files: Files = {}
    for k in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k + 1}"
        meta.TransferSyntaxUID = syntax
        ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        ds.Modality, ds.SeriesInstanceUID = "CT", "1.2.3"
        ds.AcquisitionNumber, ds.InstanceNumber = 1, k + 1
        ds.AcquisitionTime, ds.ConvolutionKernel = f"12000{k}", "B30f"
        ds.ImagePositionPatient = [10, 20, 30 + 2 * k]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = ["0.7", "0.8"]
        ds.Rows, ds.Columns, ds.SamplesPerPixel = _SIZE[1], _SIZE[0], 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.add_new(0x00280120, "US", 0)
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        big = syntax == pydicom.uid.ExplicitVRBigEndian
        ds.PixelData = (hu()[k] + 1024).astype(">u2" if big else "<u2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.is_little_endian = not big
        ds.is_implicit_VR = syntax == pydicom.uid.ImplicitVRLittleEndian
        if syntax == pydicom.uid.RLELossless:
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            ds.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        stream = pydicom.filebase.DicomBytesIO()
        pydicom.dcmwrite(stream, ds, write_like_original=False)
        files[f"{k}.dcm"] = stream.getvalue()
    return files


def nifti_files(suffix: str, version: int = 1) -> Files:
    """One NIfTI file."""
    import nibabel as nib

    affine = np.array([[-0.7, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(hu().T, affine)
    image.set_qform(affine, 1)
    data = image.to_bytes()
    return {f"ct{suffix}": gzip.compress(data, mtime=0) if suffix == ".nii.gz" else data}


def nrrd_files(encoding: str, voxels: np.ndarray, name: str, extra: str = "") -> Files:
    """One NRRD file of int16 or uint8 voxels [k, j, i]."""
    kind = "short" if voxels.dtype == np.int16 else "unsigned char"
    head = (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\nspace directions: (0.7,0,0) (0,0.8,0) (0,0,2)\n"
        f"kinds: domain domain domain\nendian: little\nencoding: {encoding}\n"
        f"space origin: (-5,-6,7)\n{extra}\n"
    )
    data = voxels.tobytes()
    return {name: head.encode() + (gzip.compress(data, mtime=0) if encoding == "gzip" else data)}


def meta_files(name: str, compressed: bool = False) -> Files:
    """One MetaImage, or a .mhd with its .raw."""
    data = hu().astype("<i2").tobytes()
    packed = zlib.compress(data) if compressed else data
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    if compressed:
        head += f"CompressedData = True\nCompressedDataSize = {len(packed)}\n"
    head += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -5 -6 7\nElementSpacing = 0.7 0.8 2\n"
    head += f"DimSize = {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\nElementType = MET_SHORT\n"
    if name.endswith(".mhd"):
        return {name: (head + "ElementDataFile = ct.raw\n").encode(), "ct.raw": packed}
    return {name: (head + "ElementDataFile = LOCAL\n").encode() + packed}


def seg_files() -> Files:
    """A .seg.nrrd with two segments."""
    mask = (hu() > 0).astype(np.uint8)
    mask[0, 0, :3] = 2
    extra = "".join(
        f"Segment{n}_ID:=S{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:={n + 1}\n"
        f"Segment{n}_Layer:=0\nSegment{n}_Extent:=0 8 0 7 0 6\n"
        for n, name in enumerate(("malignant", "benign"))
    )
    return nrrd_files("gzip", mask, "m.seg.nrrd", extra)


def layered_files() -> Files:
    """A .seg.nrrd with two layers, which overlap."""
    mask = (hu() > 0).astype(np.uint8)
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: 2 {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\n"
        "space directions: none (0.7,0,0) (0,0.8,0) (0,0,2)\nkinds: list domain domain domain\n"
        "encoding: gzip\nspace origin: (-5,-6,7)\nSegment0_ID:=a\nSegment0_Name:=malignant\n"
        "Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment1_ID:=b\nSegment1_Name:=benign\n"
        "Segment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    data = np.stack([mask, np.roll(mask, 1, 2)], -1).tobytes()
    return {"m.seg.nrrd": head.encode() + gzip.compress(data, mtime=0)}


def nifti_mask_files() -> Files:
    """A mask as .nii.gz."""
    import nibabel as nib

    affine = np.array([[-0.7, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image((hu() > 0).astype(np.uint16).T, affine)
    return {"m.nii.gz": gzip.compress(image.to_bytes(), mtime=0)}


def markups_files() -> Files:
    """A Markups document of Slicer: points, a line and a box."""
    point = {"id": "1", "label": "N1 malignant", "position": [1.0, 2.0, 3.0], "selected": True}
    markups = [
        {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]},
        {
            "type": "Line",
            "coordinateSystem": "LPS",
            "controlPoints": [point, {**point, "id": "2", "position": [9.0, 2.0, 3.0]}],
        },
        {
            "type": "ROI",
            "coordinateSystem": "RAS",
            "roiType": "Box",
            "center": [1.0, 2.0, 3.0],
            "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            "size": [6.0, 7.0, 8.0],
            "controlPoints": [point],
        },
    ]
    return {"m.mrk.json": json.dumps({"markups": markups}, indent=1).encode()}


def reading_files() -> Files:
    """A list of one reading document."""
    reading = {
        "schema": "resmtnet.reading/1",
        "image": "ct",
        "reader": "A",
        "centre_lps_mm": [1.0, 2.0, 3.0],
        "class": "malignant",
        "malignancy": 4,
        "size": {"mean_diameter_mm": 8.5},
        "characteristics": {"texture": 5},
        "comment": "seen \u00e4",
    }
    return {"r.json": json.dumps([reading], indent=1).encode()}


# -- mutation --------------------------------------------------------------------------------------

_NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_TEXTS = (
    *(b"0", b"-1", b"1e308", b"-1e-300", b"nan", b"inf", b"-inf", b"99999999999999999999", b""),
    *(
        b"9" * 400,
        b"\xff\xfe",
        b"0.7\\0.7",
        b"null",
        b"[]",
        b"{}",
        b"true",
        b'"x"',
        b"1e-9",
        b"none",
    ),
)
_NUMBER_TEXT = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{3,}")


def mutated(files: Files, draw: random.Random) -> Files:
    """The files with one to four random changes, most of them in the header."""
    changed = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        name = draw.choice(list(changed))
        changed[name] = _change(changed[name], draw)
    if len(changed) > 1 and draw.random() < 0.02:
        del changed[draw.choice(list(changed)[1:])]
    return changed


def _change(data: bytes, draw: random.Random) -> bytes:
    if not data:
        return bytes(draw.randrange(256) for _ in range(draw.randrange(200)))
    packed = data[:2] == b"\x1f\x8b" and draw.random() < 0.8
    if packed:
        # What lies under the compression is where the header is.
        with contextlib.suppress(OSError, EOFError, zlib.error):
            return gzip.compress(_change(gzip.decompress(data), draw), mtime=0)
    end = len(data) if draw.random() < 0.25 else min(len(data), 1200)
    at = draw.randrange(end)
    kind = draw.randrange(9)
    out = bytearray(data)
    if kind == 0:
        out[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        out[at] = draw.randrange(256)
    elif kind == 2:
        form = draw.choice(("<H", ">H", "<I", ">I", "<f", "<d", "<q"))
        size = struct.calcsize(form)
        if "f" in form or "d" in form:
            value = struct.pack(form, draw.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
        else:
            number = draw.choice(_NUMBERS) % 2 ** (8 * size - (form[1] == "q"))
            value = struct.pack(form, number)
        out[at : at + size] = value
    elif kind == 3:
        return data[: draw.randrange(len(data))]
    elif kind == 4:
        length = draw.randrange(1, 64)
        start = draw.randrange(len(data))
        out[at:at] = data[start : start + length]
    elif kind == 5:
        del out[at : at + draw.randrange(1, 64)]
    elif kind in (6, 7):
        found = list(_NUMBER_TEXT.finditer(data, 0, min(len(data), 3000)))
        if found:
            match = draw.choice(found)
            out[match.start() : match.end()] = draw.choice(_TEXTS)
    else:
        found = list(_WORD.finditer(data, 0, min(len(data), 3000)))
        if found:
            match = draw.choice(found)
            out[match.start() : match.end()] = draw.choice(found)[0]
    return bytes(out)
