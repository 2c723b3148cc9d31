from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.errors import VolumeError

AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2.0, -50], [0, 0, 0, 1]])
ELSEWHERE = AFFINE + np.array([[0, 0, 0, 5]] * 3 + [[0, 0, 0, 0]])


def write(
    path: Path,
    hu: np.ndarray,
    sform: np.ndarray = AFFINE,
    qform: np.ndarray = AFFINE,
    sform_code: int = 1,
    qform_code: int = 1,
) -> Path:
    image = nib.Nifti1Image(hu.T, sform)
    image.set_qform(qform, qform_code)
    image.set_sform(sform, sform_code)
    nib.save(image, path)
    return path


def set_header(path: Path, name: str, value: object) -> None:
    """Changes one field of the header of an uncompressed file."""
    with path.open("r+b") as file:
        header = nib.Nifti1Header.from_fileobj(file, check=False)
        header[name] = value
        file.seek(0)
        file.write(header.binaryblock)


def rotated(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AFFINE


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, None),
        ({"qform_code": 0}, None),
        ({"sform_code": 0}, None),
        ({"sform": rotated(20), "qform": rotated(20)}, None),
        ({"sform_code": 0, "qform_code": 0}, "no orientation"),
        ({"qform": ELSEWHERE}, "disagree"),
        ({"qform": ELSEWHERE, "sform_code": 2}, "disagree"),
        ({"qform": ELSEWHERE, "qform_code": 2}, "disagree"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_grid_is_that_of_itk_whatever_the_header_says(
    tmp_path: Path, small_hu: np.ndarray, suffix: str, options: dict[str, object], warned: str
) -> None:
    import itk

    path = write(tmp_path / f"ct{suffix}", small_hu, **options)  # type: ignore[arg-type]
    ct = CTVolume.open(path)
    image = itk.imread(str(path))
    for ijk in [(0, 0, 0), (7, 0, 0), (0, 6, 0), (0, 0, 5)]:
        expected = image.TransformIndexToPhysicalPoint(ijk)
        assert np.allclose(ct.geometry.ijk_to_lps(ijk), list(expected), atol=1e-4)
    assert np.array_equal(ct.array(), itk.array_from_image(image))
    assert (warned in ct.warnings[0]) if warned else ct.warnings == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_scale_of_the_header_is_used(tmp_path: Path, small_hu: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    image = nib.Nifti1Image(((small_hu.T + 1024) // 2).astype(np.int16), AFFINE)
    image.header.set_slope_inter(2, -1024)
    nib.save(image, path)
    if suffix == ".nii":  # nibabel writes the voxels rescaled to the header's own scale
        set_header(path, "scl_slope", 2)
        set_header(path, "scl_inter", -1024)
    ct = CTVolume.open(path)
    import itk

    assert np.array_equal(ct.array(), np.rint(itk.array_from_image(itk.imread(str(path)))))


def test_a_big_endian_file_is_read(tmp_path: Path, small_hu: np.ndarray) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(small_hu.T, AFFINE, header)
    nib.save(image, tmp_path / "ct.nii")
    assert (tmp_path / "ct.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    assert np.array_equal(CTVolume.open(tmp_path / "ct.nii").array(), small_hu)


def test_an_uncompressed_file_is_memory_mapped(tmp_path: Path, small_hu: np.ndarray) -> None:
    ct = CTVolume.open(write(tmp_path / "ct.nii", small_hu))
    assert isinstance(ct._source.stored.base, np.memmap)  # type: ignore[attr-defined]


def test_values_that_are_not_hu_are_found_when_they_are_read(
    tmp_path: Path, small_hu: np.ndarray
) -> None:
    ct = CTVolume.open(write(tmp_path / "ct.nii", small_hu + np.int16(1024)))
    assert ct.warnings == ()
    crop = ct.crop(ct.geometry.ijk_to_lps((4, 3, 3)), 1.0)
    assert "Hounsfield" in crop.warnings[0]
    ct.array()
    assert "Hounsfield" in ct.warnings[0]


def test_zero_spacing_is_a_clear_error(tmp_path: Path, small_hu: np.ndarray) -> None:
    path = write(tmp_path / "ct.nii", small_hu)
    set_header(path, "pixdim", [1, 0.5, 0.75, 0, 0, 0, 0, 0])
    with pytest.raises(VolumeError, match=r"ct\.nii.*spacing is \(0\.5, 0\.75, 0\.0\)"):
        CTVolume.open(path)


def test_a_sheared_affine_is_a_clear_error(tmp_path: Path, small_hu: np.ndarray) -> None:
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.5
    path = write(tmp_path / "ct.nii", small_hu, sform=sheared, qform_code=0)
    with pytest.raises(VolumeError, match=r"ct\.nii.*sheared"):
        CTVolume.open(path)
