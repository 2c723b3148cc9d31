from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
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


def _twelve_of_16_bits(stored_type: str, high_bit: int) -> Callable[[Dataset, int], None]:
    """Keeps 12 bits of each word, up to a high bit, and fills the others with noise."""

    def edit(ds: Dataset, k: int) -> None:
        words = np.frombuffer(ds.PixelData, stored_type).astype(np.int64)
        noise = np.random.default_rng(k).integers(0, 2**16, words.shape)
        mask = 0xFFF << (high_bit - 11)
        mixed = (words << (high_bit - 11)) & mask | noise & ~mask
        ds.PixelData = mixed.astype(np.uint16).astype(f"{stored_type[0]}u2").tobytes()
        ds.BitsStored, ds.HighBit = 12, high_bit

    return edit


@pytest.mark.parametrize(("sign", "intercept"), [("u", -1024.0), ("i", 0.0)])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_only_the_stored_bits_of_a_word_count(
    tmp_path: Path,
    small_hu: np.ndarray,
    write_series: WriteSeries,
    sign: str,
    intercept: float,
    high_bit: int,
    syntax: str,
) -> None:
    stored_type = f"{'>' if syntax == ExplicitVRBigEndian else '<'}{sign}2"
    edit = _twelve_of_16_bits(stored_type, high_bit)
    write_series(
        tmp_path,
        small_hu,
        stored_type=stored_type,
        intercept=intercept,
        syntax=syntax,
        edit=edit,
    )
    assert np.array_equal(CTVolume.open(tmp_path).array(), small_hu)


@pytest.mark.parametrize(("stored_type", "intercept"), [("<u2", -1024.0), ("<i2", 0.0)])
def test_12_bits_with_an_overlay_above_them_are_read_as_itk_does(
    tmp_path: Path,
    small_hu: np.ndarray,
    write_series: WriteSeries,
    stored_type: str,
    intercept: float,
) -> None:
    import itk

    edit = _twelve_of_16_bits(stored_type, high_bit=11)
    paths = write_series(
        tmp_path, small_hu, stored_type=stored_type, intercept=intercept, edit=edit
    )
    hu = CTVolume.open(tmp_path).array()
    for path, plane in zip(paths, hu, strict=True):
        image = itk.imread(str(path), imageio=itk.GDCMImageIO.New())
        assert np.array_equal(np.squeeze(itk.array_from_image(image)), plane)


@pytest.mark.parametrize(("stored", "high"), [(0, 11), (17, 16), (12, 10), (12, 16)])
def test_bits_that_do_not_fit_the_word_are_an_error_that_names_the_file(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries, stored: int, high: int
) -> None:
    def edit(ds: Dataset, k: int) -> None:
        ds.BitsStored, ds.HighBit = stored, high

    write_series(tmp_path, small_hu, edit=edit)
    with pytest.raises(VolumeError, match=r"image000\.dcm: BitsStored"):
        CTVolume.open(tmp_path).array()


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
