from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from resmtnet.ct import CTVolume
from resmtnet.errors import VolumeError

WriteSeries = Callable[..., list[Path]]


@pytest.mark.parametrize(
    ("syntax", "stored_type"),
    [
        (ImplicitVRLittleEndian, "<u2"),
        (DeflatedExplicitVRLittleEndian, "<i2"),
        (ExplicitVRBigEndian, ">i2"),
    ],
)
def test_every_uncompressed_transfer_syntax_gives_the_same_hu(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries, syntax: str, stored_type: str
) -> None:
    write_series(tmp_path, small_hu, syntax=syntax, stored_type=stored_type)
    assert np.array_equal(CTVolume.open(tmp_path).array(), small_hu)


def test_rle_gives_the_same_hu(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    for path in write_series(tmp_path, small_hu):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(path)
    assert np.array_equal(CTVolume.open(tmp_path).array(), small_hu)


@pytest.fixture
def jpeg2000_series(tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries) -> list[Path]:
    """A series that pydicom alone cannot decode: lossless JPEG 2000, written by ITK."""
    import itk

    paths = write_series(tmp_path, np.repeat(np.repeat(small_hu, 8, 1), 8, 2))
    for path in paths:
        source = pydicom.dcmread(path)
        io = itk.GDCMImageIO.New()
        image = itk.imread(str(path), imageio=io)
        io.SetUseCompression(True)
        io.SetCompressor("JPEG2000")
        compressed = path.with_suffix(".jp2")
        writer = itk.ImageFileWriter.New(image, FileName=str(compressed), ImageIO=io)
        writer.SetUseCompression(True)
        writer.Update()
        target = pydicom.dcmread(compressed)
        assert target.file_meta.TransferSyntaxUID == pydicom.uid.JPEG2000Lossless
        target.SeriesInstanceUID = source.SeriesInstanceUID
        target.ImagePositionPatient = source.ImagePositionPatient
        target.save_as(path)
        compressed.unlink()
    return paths


def test_compressed_slices_that_pydicom_cannot_decode_are_decoded_by_itk(
    jpeg2000_series: list[Path], small_hu: np.ndarray
) -> None:
    hu = CTVolume.open(jpeg2000_series[0].parent).array()
    assert np.array_equal(hu[:, ::8, ::8], small_hu)


def test_a_truncated_compressed_slice_is_named(jpeg2000_series: list[Path]) -> None:
    path = jpeg2000_series[2]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 200])
    with pytest.raises(VolumeError, match=r"image002\.dcm"):
        CTVolume.open(path.parent).array()
