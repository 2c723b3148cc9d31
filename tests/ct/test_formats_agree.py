"""One CT, written in every format and orientation, has the same value at the same place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from resmtnet.ct import CTVolume, Geometry

SPACING_IJK_MM = (0.5, 0.75, 2.0)
ORIGIN_LPS_MM = (10.0, -20.0, -50.0)
FORMATS = ["dicom", "nibabel.nii", "nibabel.nii.gz", "itk.nii", "itk.nii.gz", "nrrd", "mha", "mhd"]


def reorient(
    hu: np.ndarray, geometry: Geometry, order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[np.ndarray, Geometry]:
    """The same voxels at the same places, with their axes permuted and flipped."""
    array = hu.T  # (i, j, k)
    corner = [geometry.size_ijk[axis] - 1 if axis in flips else 0 for axis in range(3)]
    array = np.flip(array, flips).transpose(order)
    direction = geometry.direction * [-1 if axis in flips else 1 for axis in range(3)]
    x, y, z = geometry.ijk_to_lps(corner)
    i, j, k = (geometry.spacing_mm[axis] for axis in order)
    size = array.shape
    moved = Geometry(size, (i, j, k), (x, y, z), direction[:, order])  # type: ignore[arg-type]
    return np.ascontiguousarray(array.T), moved


def write(
    folder: Path, kind: str, hu: np.ndarray, grid: Geometry, write_series: Callable[..., Any]
) -> Path:
    import itk

    if kind == "dicom":
        write_series(folder / "series", hu, grid.spacing_mm, grid.origin_lps_mm, grid.direction)
        return folder / "series"
    path = folder / f"ct.{kind.removeprefix('nibabel.').removeprefix('itk.')}"
    if kind.startswith("nibabel"):
        affine = np.eye(4)
        affine[:3, :3] = grid.direction * grid.spacing_mm
        affine[:3, 3] = grid.origin_lps_mm
        nib.save(nib.Nifti1Image(hu.T, np.diag([-1, -1, 1, 1]) @ affine), path)
        return path
    image = itk.image_from_array(hu)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_lps_mm)
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(grid.direction)))
    itk.imwrite(image, str(path), compression=kind == "nrrd")
    return path


def values_at(crop_hu: np.ndarray, grid: Geometry, lps_mm: np.ndarray) -> np.ndarray:
    kji = grid.lps_to_ijk(lps_mm)[:, ::-1].T
    return map_coordinates(crop_hu.astype(np.float64), kji, order=1, mode="nearest")


def right_handed(order: tuple[int, ...], flips: tuple[int, ...]) -> bool:
    return np.linalg.det(np.eye(3)[:, order]) * (-1) ** len(flips) > 0


ORIENTATIONS = [
    (order, flips)
    for order in permutations(range(3))
    for flips in [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)]
]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_orientation_has_the_same_value_at_the_same_place(
    tmp_path: Path,
    small_hu: np.ndarray,
    oblique: np.ndarray,
    write_series: Callable[..., Any],
    kind: str,
) -> None:
    reference = Geometry((8, 7, 6), SPACING_IJK_MM, ORIGIN_LPS_MM, oblique)
    points = reference.ijk_to_lps(np.random.default_rng(0).uniform(1, 5, (20, 3)))
    expected = values_at(small_hu, reference, points)
    for order, flips in ORIENTATIONS:
        if kind == "dicom" and not right_handed(order, flips):
            continue  # k of a DICOM series is the normal of i and j: always right-handed
        folder = tmp_path / f"{order}{flips}"
        folder.mkdir()
        hu, grid = reorient(small_hu, reference, order, flips)
        ct = CTVolume.open(write(folder, kind, hu, grid, write_series))
        assert np.allclose(values_at(ct.array(), ct.geometry, points), expected, atol=0.1)
        crop = ct.crop(points.mean(axis=0), 4.0)
        near = points[np.abs(points - points.mean(axis=0)).max(axis=1) < 2.0]
        assert len(near)
        assert np.allclose(
            values_at(crop.hu, crop.geometry, near),
            values_at(small_hu, reference, near),
            atol=0.1,
        )


def test_a_dicom_series_has_the_index_and_the_place_that_itk_gives_it(
    tmp_path: Path, small_hu: np.ndarray, oblique: np.ndarray, write_series: Callable[..., Any]
) -> None:
    import itk

    write_series(tmp_path, small_hu, direction=oblique, order=[3, 0, 5, 1, 4, 2])
    ct = CTVolume.open(tmp_path)
    names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path))
    image = itk.imread(list(names.GetFileNames(names.GetSeriesUIDs()[0])))
    assert np.array_equal(ct.array(), itk.array_from_image(image))
    for ijk in [(0, 0, 0), (7, 0, 0), (0, 6, 0), (0, 0, 5)]:
        expected = list(image.TransformIndexToPhysicalPoint(ijk))
        assert np.allclose(ct.geometry.ijk_to_lps(ijk), expected, atol=1e-4)
