"""Inputs that other readers get wrong, and that must stay right here."""

from __future__ import annotations

import base64
from pathlib import Path

import itk
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from odd_files import HTJ2K, NRRD_GRID, chest, write_meta, write_nifti, write_nrrd, write_series
from resmtnet.ct import CTVolume

HU = chest()


def compress(path: Path, frame: bytes, syntax: str) -> None:
    """Put a compressed frame into a slice."""
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path, write_like_original=False)


def jpeg2000(words: np.ndarray, path: Path) -> Dataset:
    """Words [row, column] as a JPEG 2000 image, encoded by ITK."""
    io = itk.GDCMImageIO.New()
    io.SetUseCompression(True)
    io.SetCompressor("JPEG2000")
    image = itk.image_from_array(np.ascontiguousarray(words[None]))
    writer = itk.ImageFileWriter.New(image, FileName=str(path), ImageIO=io)
    writer.SetUseCompression(True)
    writer.Update()
    return dcmread(path)


def test_htj2k_is_read(tmp_path: Path) -> None:
    words = (np.arange(64).reshape(8, 8) * 17 % 900 + 100).astype(np.uint16)
    write_series(
        tmp_path / "s",
        np.repeat(HU[:3], 1, 0),
        Rows=8,
        Columns=8,
        PixelRepresentation=0,
        PixelData=words.tobytes(),
    )
    for path in (tmp_path / "s").iterdir():
        # pydicom 2 does not know HTJ2K: written as another syntax of the same length
        compress(path, base64.b64decode(HTJ2K), "1.2.840.10008.1.2.4.100")
        path.write_bytes(path.read_bytes().replace(b".1.2.4.100", b".1.2.4.201", 1))
    array = CTVolume.open(tmp_path / "s").array()
    assert np.array_equal(array, np.stack([words.astype(int) - 1024] * 3))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("representation", [0, 1])
def test_jpeg_2000_is_read_as_it_was_encoded_whatever_the_header_says_of_its_sign(
    tmp_path: Path, representation: int, photometric: str
) -> None:
    """PixelRepresentation may differ from the sign in the code stream (pydicom #1149)."""
    large = np.kron(HU[:3], np.ones((1, 4, 4), np.int16))
    write_series(
        tmp_path / "s",
        large,
        Rows=large.shape[1],
        Columns=large.shape[2],
        PixelRepresentation=representation,
        PhotometricInterpretation=photometric,
    )
    for path, plane in zip(sorted((tmp_path / "s").iterdir()), large, strict=True):
        coded = jpeg2000((plane.astype(np.int32) + 1024).astype(np.uint16), tmp_path / "c.dcm")
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        ds.PixelData = coded.PixelData
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.save_as(path, write_like_original=False)
    assert np.array_equal(CTVolume.open(tmp_path / "s").array(), large)


def test_a_nrrd_in_ras_lies_where_it_would_in_lps(tmp_path: Path) -> None:
    lps = CTVolume.open(write_nrrd(tmp_path / "lps.nrrd", HU))
    grid = NRRD_GRID.replace("(0.8,0,0) (0,0.7,0)", "(-0.8,0,0) (0,-0.7,0)").replace(
        "(-9.0,-7.0,", "(9.0,7.0,"
    )
    space = "space: right-anterior-superior\n"
    ras = CTVolume.open(write_nrrd(tmp_path / "ras.nrrd", HU, grid, space=space))
    for ijk in [(0, 0, 0), (23, 0, 0), (0, 19, 0), (0, 0, 11)]:
        assert np.allclose(lps.geometry.ijk_to_lps(ijk), ras.geometry.ijk_to_lps(ijk), atol=1e-6)
    assert np.array_equal(ras.array(), HU)
    assert ras.warnings == ()


def test_one_ct_in_every_kind_of_file_is_one_ct(tmp_path: Path) -> None:
    opened = [
        CTVolume.open(path)
        for path in (
            write_series(tmp_path / "s", HU),
            write_nifti(tmp_path / "ct.nii.gz", HU),
            write_nrrd(tmp_path / "ct.nrrd", HU, encoding="gzip"),
            write_meta(tmp_path / "ct.mha", HU, compressed=True),
        )
    ]
    for ct in opened:
        assert np.array_equal(ct.array(), HU)
        assert np.allclose(ct.geometry.ijk_to_lps((23, 19, 11)), (9.4, 6.3, 11.0), atol=1e-4)
        assert ct.warnings == ()


def large(kind: str) -> np.ndarray:
    """int16 HU [k, j, i] of a volume that is large enough for its histogram."""
    _, j, i = np.indices((48, 80, 80))
    away = np.hypot(i - 40, j - 40)
    if kind == "chest":
        return np.where(away > 38, -1000, np.where(away > 26, 40, -850)).astype(np.int16)
    if kind == "head":
        return np.where(away > 34, -1000, np.where(away > 30, 900, 35)).astype(np.int16)
    return np.where(away > 38, 0, 300).astype(np.int16)


@pytest.mark.parametrize(
    ("kind", "told"),
    [("chest", None), ("head", "not look like a CT of the chest"), ("MR", "not look like")],
)
@pytest.mark.parametrize("form", ["dicom", ".nii", ".nii.gz", ".nrrd", "array"])
def test_what_is_no_ct_of_the_chest_is_told(
    tmp_path: Path, kind: str, told: str | None, form: str
) -> None:
    hu = large(kind)
    if form == "dicom":
        ct = CTVolume.open(write_series(tmp_path / "s", hu, Rows=80, Columns=80))
    elif form == "array":
        ct = CTVolume.from_array(hu, (2.0, 0.7, 0.8))
    else:
        write = write_nrrd if form == ".nrrd" else write_nifti
        ct = CTVolume.open(write(tmp_path / f"ct{form}", hu))
    crop = ct.crop(ct.geometry.ijk_to_lps((30, 40, 24)), 24.0)
    found = (*ct.warnings, *crop.warnings)
    assert any(told in text for text in found) if told else found == ()
