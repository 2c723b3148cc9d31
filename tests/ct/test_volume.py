from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError, PointError, VolumeError


@pytest.fixture
def ct(small_hu: np.ndarray) -> CTVolume:
    return CTVolume.from_array(small_hu, (2, 0.75, 0.5), (10, -20, -50))


def test_array_order_is_kji_and_spacing_is_given_in_that_order(
    ct: CTVolume, small_hu: np.ndarray
) -> None:
    assert ct.geometry.size_ijk == (8, 7, 6)
    assert ct.geometry.spacing_mm == (0.5, 0.75, 2.0)
    assert ct.shape_kji == (6, 7, 8)
    assert np.array_equal(ct.array(), small_hu)


def test_a_crop_covers_its_extent_and_one_voxel_more(ct: CTVolume, small_hu: np.ndarray) -> None:
    centre = ct.geometry.ijk_to_lps((3, 3, 3))
    crop = ct.crop(centre, (1.0, 1.5, 2.0))
    # x: 1 mm = voxels 2..4, then one more on each side; z: 2 mm = 2.5..3.5 = voxels 2..4.
    assert crop.start_ijk == (1, 1, 1)
    assert crop.geometry.size_ijk == (5, 5, 5)
    assert np.array_equal(crop.hu, small_hu[1:6, 1:6, 1:6])
    assert not crop.outside


def test_a_crop_keeps_the_place_of_its_voxels(small_hu: np.ndarray, oblique: np.ndarray) -> None:
    ct = CTVolume.from_array(small_hu, (2, 0.75, 0.5), (10, -20, -50), oblique)
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 3, 3)), 1.0)
    here = ct.geometry.lps_to_ijk(crop.geometry.ijk_to_lps((1, 1, 1)))
    i, j, k = np.rint(here).astype(int)
    assert np.allclose(here, (i, j, k))
    assert crop.hu[1, 1, 1] == small_hu[k, j, i]


def test_the_extent_is_along_the_patient_axes_whatever_the_order_of_the_voxels(
    small_hu: np.ndarray,
) -> None:
    # i runs along S, j along L, k along P.
    direction = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    ct = CTVolume.from_array(small_hu, (1, 1, 1), direction=direction)
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 3, 3)), (0.1, 0.1, 2.0))
    assert crop.geometry.size_ijk == (5, 5, 5)
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 3, 3)), (2.0, 0.1, 0.1))
    assert crop.start_ijk[1] == 1


def test_a_crop_outside_the_volume_is_padded_with_air_and_flagged(
    ct: CTVolume, small_hu: np.ndarray
) -> None:
    crop = ct.crop(ct.geometry.ijk_to_lps((0, 0, 0)), 1.0)
    assert crop.outside
    assert crop.start_ijk == (-2, -2, -2)
    assert (crop.hu[:2] == -1024).all()
    assert (crop.hu[:, :, :2] == -1024).all()
    assert np.array_equal(crop.hu[2:, 2:, 2:], small_hu[:3, :3, :3])


def test_a_crop_far_from_the_volume_is_all_air(ct: CTVolume) -> None:
    crop = ct.crop((1000, 0, 0), 10.0)
    assert crop.outside
    assert (crop.hu == -1024).all()
    assert crop.warnings == ()


@pytest.mark.parametrize("centre", [(0, 0), (0, 0, np.nan), (np.inf, 0, 0)])
def test_a_centre_that_is_no_point_is_a_clear_error(ct: CTVolume, centre: object) -> None:
    with pytest.raises(PointError, match="three finite numbers"):
        ct.crop(centre, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("extent", [0, -1, np.nan, (1, 2), (1, 2, 0)])
def test_an_extent_that_is_no_box_is_a_clear_error(ct: CTVolume, extent: object) -> None:
    with pytest.raises(InputError, match="positive widths"):
        ct.crop((0, 0, 0), extent)  # type: ignore[arg-type]


def test_an_extent_larger_than_any_ct_is_refused(ct: CTVolume) -> None:
    with pytest.raises(InputError, match="larger than any CT"):
        ct.crop((0, 0, 0), 1e5)


def test_a_float_array_is_rounded_clipped_and_made_finite(small_hu: np.ndarray) -> None:
    values = small_hu + 0.6
    values[0, 0, :3] = np.nan, 1e9, -1e9
    ct = CTVolume.from_array(values, (1, 1, 1))
    assert ct.array()[0, 0, :3].tolist() == [-1024, 32767, -32768]
    assert ct.array()[1, 1, 1] == small_hu[1, 1, 1] + 1
    assert any("1 of 336 voxels is not finite" in text for text in ct.warnings)


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((0, 2, 2)), np.array([["a"]])])
def test_an_array_that_is_no_volume_is_a_clear_error(array: np.ndarray) -> None:
    with pytest.raises(VolumeError, match="3D array"):
        CTVolume.from_array(array, (1, 1, 1))


@pytest.mark.parametrize(
    ("shift", "warned"), [(0, False), (1024, True), (600, True), (-20000, True)]
)
def test_values_that_are_not_hu_are_warned_of(
    small_hu: np.ndarray, shift: int, warned: bool
) -> None:
    ct = CTVolume.from_array((small_hu + shift).astype(np.int16), (1, 1, 1))
    assert any("Hounsfield" in text for text in ct.warnings) == warned


def test_a_crop_of_values_that_are_not_hu_warns_too() -> None:
    stored = np.full((9, 9, 9), 900, np.int16)
    stored[4] = 1100
    crop = CTVolume.from_array(stored, (1, 1, 1)).crop((4, 4, 4), 3)
    assert any("Hounsfield" in text for text in crop.warnings)


def test_a_crop_of_soft_tissue_alone_is_no_reason_to_warn(small_hu: np.ndarray) -> None:
    ct = CTVolume.from_array(small_hu, (1, 1, 1))
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 5, 2)), 0.5)
    assert crop.hu[crop.hu != -1024].min() > -500
    assert crop.warnings == ()


def test_a_path_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no file or folder"):
        CTVolume.open(tmp_path / "ct.nii")


def test_an_unknown_suffix_lists_the_allowed_ones(tmp_path: Path) -> None:
    path = tmp_path / "ct.png"
    path.write_bytes(b"png")
    with pytest.raises(VolumeError, match=r"\.nii, \.nii\.gz, \.nrrd, \.nhdr, \.mha, \.mhd"):
        CTVolume.open(path)


def test_a_crop_of_mostly_lung_is_not_told_as_another_part_of_the_body() -> None:
    hu = np.full((52, 52, 52), -850, np.int16)
    hu[20:31, 20:32, 20:32] = 30  # 1.1% soft tissue
    assert CTVolume.from_array(hu, (1.0, 1.0, 1.0)).warnings == ()
