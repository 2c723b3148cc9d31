from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from resmtnet.ct import CTVolume, dicom_series
from resmtnet.ct.dicom_header import read_header
from resmtnet.ct.dicom_series import list_series
from resmtnet.ct.series_index import SeriesIndex
from resmtnet.errors import SeveralSeriesError, VolumeError

WriteSeries = Callable[..., list[Path]]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose pixel data were decoded, in order."""
    paths: list[Path] = []
    decode = dicom_series.decode

    def counting(header: dicom_series.Header) -> dicom_series.StoredSlice:
        paths.append(header.path)
        return decode(header)

    monkeypatch.setattr(dicom_series, "decode", counting)
    return paths


def test_files_in_any_order_make_the_volume(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu, order=[3, 0, 5, 1, 4, 2], series_uid="1.2.3")
    ct = CTVolume.open(tmp_path)
    assert np.array_equal(ct.array(), small_hu)
    assert ct.geometry.spacing_mm == (0.5, 0.75, 2.0)
    assert ct.geometry.origin_lps_mm == (10.0, -20.0, -50.0)
    assert ct.image_id == "1.2.3"
    assert ct.path == tmp_path
    assert ct.warnings == ()


def test_opening_decodes_nothing_and_a_crop_only_its_slices(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries, decoded: list[Path]
) -> None:
    paths = write_series(tmp_path, small_hu)
    ct = CTVolume.open(tmp_path)
    assert decoded == []
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 3, 2)), 0.5)
    assert np.array_equal(crop.hu, small_hu[0:5, 1:6, 2:7])
    assert decoded == paths[:5]
    ct.crop(ct.geometry.ijk_to_lps((4, 3, 2)), 0.5)
    assert len(decoded) == 5


def test_many_threads_read_the_same_values(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu)
    ct = CTVolume.open(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: ct.array(), range(32)))
    assert all(np.array_equal(hu, small_hu) for hu in results)


@pytest.mark.parametrize("stored_type", ["<u2", "<i2", "<i4"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -1000), (0.5, -1024.5)])
def test_rescale_slope_and_intercept_give_hu(
    tmp_path: Path,
    small_hu: np.ndarray,
    write_series: WriteSeries,
    stored_type: str,
    slope: float,
    intercept: float,
) -> None:
    write_series(tmp_path, small_hu, slope=slope, intercept=intercept, stored_type=stored_type)
    hu = CTVolume.open(tmp_path).array()
    assert np.abs(hu - small_hu.astype(int)).max() <= slope / 2


def test_each_slice_has_its_own_rescale_slope(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def edit(ds: Dataset, k: int) -> None:
        ds.RescaleIntercept = -1024 + 10 * k

    write_series(tmp_path, small_hu, edit=edit)
    hu = CTVolume.open(tmp_path).array()
    assert np.array_equal(hu, small_hu + 10 * np.arange(6)[:, None, None])


def test_an_oblique_series_lies_where_its_headers_say(
    tmp_path: Path, small_hu: np.ndarray, oblique: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu, direction=oblique)
    ct = CTVolume.open(tmp_path)
    assert np.allclose(ct.geometry.direction, oblique, atol=1e-6)
    assert np.array_equal(ct.array(), small_hu)
    assert ct.warnings == ()


def test_one_file_stands_for_its_series_only(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu, order=list(range(10, 16)))
    paths = write_series(tmp_path, small_hu[:4], series_uid="1.2.3")
    ct = CTVolume.open(paths[2])
    assert ct.image_id == "1.2.3"
    assert ct.geometry.size_ijk == (8, 7, 4)


def test_several_series_in_a_folder_are_listed(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu, order=list(range(10, 16)), series_uid="1.2.4")
    paths = write_series(tmp_path, small_hu[:4], series_uid="1.2.3")
    with pytest.raises(
        SeveralSeriesError,
        match=r"2 series: 1\.2\.3 \(CT, Thorax, 4 images\); 1\.2\.4 \(CT, Thorax, 6 images\)",
    ):
        CTVolume.open(tmp_path)
    first, second = list_series(tmp_path)
    assert (first.uid, first.modality, first.description) == ("1.2.3", "CT", "Thorax")
    assert (first.n_images, second.n_images) == (4, 6)
    assert first.first_file == paths[0]


def test_what_is_not_an_image_of_the_series_is_ignored(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def report(ds: Dataset, k: int) -> None:
        ds.Modality, ds.SOPClassUID = "SR", "1.2.840.10008.5.1.4.1.1.88.33"
        del ds.Rows, ds.Columns, ds.PixelData

    def segmentation(ds: Dataset, k: int) -> None:
        ds.Modality, ds.SOPClassUID = "SEG", "1.2.840.10008.5.1.4.1.1.66.4"

    write_series(tmp_path, small_hu[:1], order=[20], edit=report)
    write_series(tmp_path, small_hu[:1], order=[21], edit=segmentation)
    write_series(tmp_path, small_hu)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "._image000.dcm").write_bytes(b"fork")
    (tmp_path / "folder").mkdir()
    ct = CTVolume.open(tmp_path)
    assert np.array_equal(ct.array(), small_hu)
    assert ct.warnings == ()


def test_a_localizer_in_the_series_is_left_out_and_said(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    coronal = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    write_series(tmp_path, small_hu, series_uid="1.2.3")
    write_series(tmp_path, small_hu[:1], series_uid="1.2.3", order=[9], direction=coronal)
    ct = CTVolume.open(tmp_path)
    assert np.array_equal(ct.array(), small_hu)
    assert "1 of 7 images" in ct.warnings[0]


def test_missing_slices_are_filled_and_said_and_the_others_stay_in_place(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    paths = write_series(tmp_path, small_hu)
    paths[2].unlink()
    ct = CTVolume.open(tmp_path)
    assert ct.geometry.size_ijk == (8, 7, 6)
    assert ct.geometry.spacing_mm == (0.5, 0.75, 2.0)
    assert np.array_equal(ct.array()[3:], small_hu[3:])
    assert np.abs(ct.array()[2] - small_hu[2]).max() <= 1  # the test's HU are linear in k
    assert ct.warnings[0].startswith("1 slice is missing, interpolated from the neighbours: k = 2")
    there, elsewhere = (ct.crop(ct.geometry.ijk_to_lps((4, 3, k)), 0.2) for k in (2, 5))
    assert "interpolated" in there.warnings[0]
    assert elsewhere.warnings == ()


def test_two_images_at_one_position_leave_the_first_acquisition(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def acquisition(number: int) -> Callable[[Dataset, int], None]:
        return lambda ds, _: setattr(ds, "AcquisitionNumber", number)

    write_series(tmp_path, small_hu + 7, series_uid="1.2.3", edit=acquisition(2))
    write_series(
        tmp_path, small_hu, series_uid="1.2.3", edit=acquisition(1), order=list(range(10, 16))
    )
    ct = CTVolume.open(tmp_path)
    assert np.array_equal(ct.array(), small_hu)
    (text,) = ct.warnings
    assert "holds 2 stacks" in text
    assert "stack 1: 6 slices from -50.0 to -40.0 mm, AcquisitionNumber 1. Left out" in text
    assert np.array_equal(CTVolume.open(tmp_path, stack=2).array(), small_hu + 7)
    with pytest.raises(VolumeError, match=r"Stack 3 is not in the series, which holds 2: stack 1"):
        CTVolume.open(tmp_path, stack=3)


def test_gantry_tilt_is_an_error_that_gives_the_angle(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def tilt(ds: Dataset, k: int) -> None:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y + 0.5 * k, z]

    write_series(tmp_path, small_hu, edit=tilt)
    with pytest.raises(VolumeError, match=r"up to 2\.5 mm \(gantry tilt of about 14\.0 degrees\)"):
        CTVolume.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Modality": "MR"}, "modality MR; a CT is needed"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "enhanced multi-frame CT"),
        ({"NumberOfFrames": 4}, "enhanced multi-frame CT"),
        ({"SamplesPerPixel": 3}, "colour image"),
        ({"PixelSpacing": [1, 0]}, "spacing is"),
        ({"PixelSpacing": None}, "PixelSpacing is ''"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not orthogonal"),
        ({"ImagePositionPatient": [0, 0, 0]}, "one position"),
        ({"ImagePositionPatient": [0, 0]}, "ImagePositionPatient is"),
    ],
)
def test_a_series_that_is_no_ct_volume_is_a_clear_error(
    tmp_path: Path,
    small_hu: np.ndarray,
    write_series: WriteSeries,
    change: dict[str, object],
    message: str,
) -> None:
    def edit(ds: Dataset, k: int) -> None:
        for keyword, value in change.items():
            setattr(ds, keyword, value)

    write_series(tmp_path, small_hu, edit=edit)
    with pytest.raises(VolumeError, match=message) as caught:
        CTVolume.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_single_slice_is_no_volume(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu[:1])
    with pytest.raises(VolumeError, match="at least 2"):
        CTVolume.open(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.97])
def test_a_truncated_file_is_named(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries, keep: float
) -> None:
    path = write_series(tmp_path, small_hu)[3]
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(VolumeError, match=r"image003\.dcm"):
        CTVolume.open(tmp_path)


def test_a_bad_file_beside_a_series_does_not_keep_its_files_from_opening_it(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    path = write_series(tmp_path, small_hu)[2]
    (tmp_path / "other.dcm").write_bytes(bytes(128) + b"DICM\x02\x00")
    ct = CTVolume.open(path)
    assert np.array_equal(ct.array(), small_hu)
    assert len(ct.warnings) == 1
    assert "other.dcm" in ct.warnings[0]
    with pytest.raises(VolumeError, match=r"other\.dcm"):
        CTVolume.open(tmp_path)


def test_a_truncated_file_blocks_its_own_series_only(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    good = write_series(tmp_path, small_hu, series_uid="1.2.3")
    bad = write_series(tmp_path, small_hu, series_uid="1.2.4", order=list(range(10, 16)))
    bad[3].write_bytes(bad[3].read_bytes()[:-10])
    ct = CTVolume.open(good[0])
    assert np.array_equal(ct.array(), small_hu)
    assert ct.warnings == ()
    with pytest.raises(VolumeError, match=r"image013\.dcm is truncated"):
        CTVolume.open(bad[0])
    with pytest.raises(SeveralSeriesError, match="2 series"):
        CTVolume.open(tmp_path)


def test_an_empty_folder_and_one_without_dicom_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="is empty"):
        CTVolume.open(tmp_path)
    (tmp_path / "series1").mkdir()
    (tmp_path / "ct.nii").write_text("")
    with pytest.raises(VolumeError, match=r"no DICOM images .*subfolders .*series1"):
        CTVolume.open(tmp_path)


def test_sequences_of_undefined_length_do_not_hide_the_elements_after_them(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def edit(ds: Dataset, k: int) -> None:
        inner, outer = Dataset(), Dataset()
        inner.ReferencedSOPInstanceUID = generate_uid()
        inner.Rows = 999
        outer.ReferencedInstanceSequence = Sequence([inner])
        outer["ReferencedInstanceSequence"].is_undefined_length = True
        ds.ReferencedImageSequence = Sequence([outer, outer])
        ds["ReferencedImageSequence"].is_undefined_length = True
        for item in ds.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = True

    write_series(tmp_path, small_hu, edit=edit)
    assert np.array_equal(CTVolume.open(tmp_path).array(), small_hu)


def test_a_header_longer_than_the_first_read_is_read_whole(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    def edit(ds: Dataset, k: int) -> None:
        ds.add_new(0x00091001, "OB", b"\1" * 100_000)

    write_series(tmp_path, small_hu, edit=edit)
    assert np.array_equal(CTVolume.open(tmp_path).array(), small_hu)


def test_sequences_nested_without_end_are_a_damaged_file_and_no_crash(
    tmp_path: Path, small_hu: np.ndarray, write_series: WriteSeries
) -> None:
    write_series(tmp_path, small_hu, series_uid="1.2.3")
    meta = (tmp_path / next(tmp_path.iterdir()).name).read_bytes()[:132]
    level = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    syntax = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    (tmp_path / "nested.dcm").write_bytes(meta + syntax + level * 5000)
    with pytest.raises(VolumeError, match=r"nested\.dcm"):
        read_header(tmp_path / "nested.dcm")
    index = SeriesIndex(tmp_path)
    index.refresh()
    assert set(index.series) == {"1.2.3"}
