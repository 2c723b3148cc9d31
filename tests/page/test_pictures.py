"""What the browser draws lies where the CT lies, and a mask that it sends back does too."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.phantom import Phantom
from resmtnet.errors import InputError
from resmtnet.page.pictures import Picture, crop_picture, mask_in, to_ras, whole_picture

CENTRE = (-75.0, 0.0, 20.0)


def volume(phantom: Phantom) -> CTVolume:
    grid = phantom.geometry
    return CTVolume.from_array(
        phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction
    )


def image_of(picture: Picture) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(picture.nifti())


def turned(axes: tuple[int, int, int], signs: tuple[int, int, int]) -> Picture:
    """A picture whose voxel axes run along others of the patient's."""
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, column] = sign
    grid = Geometry((3, 4, 5), (1.0, 2.0, 3.0), (10.0, -7.0, 3.0), direction)
    hu = np.arange(60, dtype=np.int16).reshape(grid.shape_kji)
    return Picture(hu, grid)


TURNS = [
    ((0, 1, 2), (1, 1, 1)),
    ((0, 1, 2), (-1, -1, 1)),
    ((2, 0, 1), (1, -1, 1)),
    ((1, 2, 0), (-1, 1, -1)),
]


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_every_voxel_of_the_file_lies_where_it_lies_in_the_patient(
    axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    picture = turned(axes, signs)
    image = image_of(picture)
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    drawn = np.asarray(image.dataobj)
    for index in np.ndindex(*drawn.shape):
        x, y, z = nibabel.affines.apply_affine(image.affine, index)
        i, j, k = picture.geometry.lps_to_ijk((-x, -y, z)).round().astype(int)
        assert drawn[index] == picture.hu[k, j, i]


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_a_mask_comes_back_from_the_browser_as_it_went_there(
    axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    picture = turned(axes, signs)
    mask = np.random.default_rng(0).integers(0, 2, picture.hu.shape).astype(np.uint8)
    bits = picture.pack(mask)
    assert np.array_equal(picture.unpack(bits), mask)
    drawn = np.unpackbits(np.frombuffer(bits, np.uint8), count=mask.size)
    on_file = np.ravel(np.asarray(image_of(picture).dataobj), order="F")
    assert sorted(on_file[drawn > 0]) == sorted(picture.hu[mask > 0])


def test_bits_of_another_picture_are_refused() -> None:
    with pytest.raises(InputError, match="60 voxels"):
        turned(*TURNS[0]).unpack(b"abc")


def test_a_crop_is_at_full_resolution_and_ends_with_the_ct(phantom: Phantom) -> None:
    ct = volume(phantom)
    crop = crop_picture(ct, CENTRE, 30.0)
    assert crop.geometry.spacing_mm == ct.geometry.spacing_mm
    i, j, k = ct.geometry.lps_to_ijk(crop.geometry.origin_lps_mm).round().astype(int)
    nk, nj, ni = crop.hu.shape
    assert np.array_equal(crop.hu, ct.array()[k : k + nk, j : j + nj, i : i + ni])
    all_of_it = crop_picture(ct, CENTRE, 200.0)
    assert all_of_it.geometry.size_ijk == ct.geometry.size_ijk


@pytest.mark.parametrize(("at", "extent"), [(CENTRE, 500.0), ((9e3, 0.0, 0.0), 30.0)])
def test_a_crop_that_is_too_large_or_elsewhere_is_refused(
    phantom: Phantom, at: tuple[float, float, float], extent: float
) -> None:
    with pytest.raises(InputError):
        crop_picture(volume(phantom), at, extent)


def test_the_whole_ct_is_coarser_and_covers_the_same_place(phantom: Phantom) -> None:
    ct = volume(phantom)
    whole = whole_picture(ct, 2.0)
    assert max(whole.geometry.spacing_mm) < 3.1
    assert whole.hu.size < ct.array().size / 4
    i, j, k = whole.geometry.lps_to_ijk(CENTRE).round().astype(int)
    assert whole.hu[k, j, i] > -300  # the nodule in the middle of the lung


def test_a_mask_on_the_voxels_of_a_crop_covers_the_same_place(phantom: Phantom) -> None:
    ct = volume(phantom)
    crop = crop_picture(ct, CENTRE, 20.0)
    found = mask_in(crop, np.ones((2, 3, 4), np.uint8), ct.geometry.sub((38, 39, 30), (4, 3, 2)))
    kji = np.argwhere(found)
    places = ct.geometry.lps_to_ijk(crop.geometry.ijk_to_lps(kji[:, ::-1])).round().astype(int)
    assert sorted(map(tuple, places)) == sorted(
        (i, j, k) for i in range(38, 42) for j in range(39, 42) for k in range(30, 32)
    )


def test_points_of_the_browser_are_ras() -> None:
    assert to_ras(to_ras((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)
