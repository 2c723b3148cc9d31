from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from resmtnet.ct import CTVolume, image_file
from resmtnet.errors import VolumeError

FORMATS = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]


def write(path: Path, hu: np.ndarray, spacing: tuple[float, ...] = (0.5, 0.75, 2.0)) -> Path:
    import itk

    image = itk.image_from_array(np.ascontiguousarray(hu))
    image.SetSpacing(spacing)
    image.SetOrigin((10.0, -20.0, -50.0)[: hu.ndim])
    itk.imwrite(image, str(path), compression=path.suffix == ".nrrd")
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_voxels_and_place(
    tmp_path: Path, small_hu: np.ndarray, suffix: str
) -> None:
    ct = CTVolume.open(write(tmp_path / f"case.1{suffix}", small_hu))
    assert ct.image_id == "case.1"
    assert np.array_equal(ct.array(), small_hu)
    assert ct.geometry.size_ijk == (8, 7, 6)
    assert np.allclose(ct.geometry.spacing_mm, (0.5, 0.75, 2.0))
    assert np.allclose(ct.geometry.origin_lps_mm, (10, -20, -50))
    assert ct.warnings == ()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_compressed_file_is_decoded_once(
    tmp_path: Path,
    small_hu: np.ndarray,
    suffix: str,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(tmp_path / f"ct{suffix}", small_hu)
    first = CTVolume.open(path)
    assert len(list(cache_folder.glob("volumes/*.npy"))) == 1
    monkeypatch.setattr(image_file, "_decode", None)
    again = CTVolume.open(path)
    assert np.array_equal(again.array(), small_hu)
    assert again.geometry.size_ijk == first.geometry.size_ijk
    assert again.geometry.spacing_mm == first.geometry.spacing_mm
    assert again.geometry.origin_lps_mm == first.geometry.origin_lps_mm
    assert np.array_equal(again.geometry.direction, first.geometry.direction)
    assert again.warnings == first.warnings


@pytest.mark.parametrize("suffix", [".nii", ".mhd", ".nhdr"])
def test_what_needs_no_decoding_is_not_cached(
    tmp_path: Path, small_hu: np.ndarray, suffix: str, cache_folder: Path
) -> None:
    CTVolume.open(write(tmp_path / f"ct{suffix}", small_hu)).array()
    assert not list(cache_folder.iterdir())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_other_voxel_types_are_read(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = np.arange(4 * 4 * 4).reshape(4, 4, 4).astype(dtype)
    ct = CTVolume.open(write(tmp_path / f"ct{suffix}", values, (1.0, 1.0, 1.0)))
    assert np.array_equal(ct.array(), values)
    assert "do not look like Hounsfield units: none is below 0" in ct.warnings[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_voxels_that_are_not_finite_are_air_and_counted(
    tmp_path: Path, small_hu: np.ndarray, suffix: str
) -> None:
    values = small_hu.astype(np.float32)
    values[2, 3, 4:6] = np.nan, np.inf
    ct = CTVolume.open(write(tmp_path / f"ct{suffix}", values))
    hu = ct.array()
    assert hu[2, 3, 4:6].tolist() == [-1024, -1024]
    assert ct.warnings == ("2 of 336 voxels are not finite: read as air.",)
    expected = small_hu.copy()
    expected[2, 3, 4:6] = -1024
    assert np.array_equal(hu, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_four_dimensions_are_an_error_and_a_trailing_one_is_not(
    tmp_path: Path, small_hu: np.ndarray, suffix: str
) -> None:
    spacing = (0.5, 0.75, 2.0, 1.0)
    path = tmp_path / f"ct{suffix}"
    with pytest.raises(VolumeError, match=r"4 dimensions \(8, 7, 6, 2\)"):
        CTVolume.open(write_4d(path, np.stack([small_hu, small_hu]), spacing))
    ct = CTVolume.open(write_4d(path, small_hu[None], spacing))
    assert np.array_equal(ct.array(), small_hu)


def write_4d(path: Path, hu: np.ndarray, spacing: tuple[float, ...]) -> Path:
    import itk

    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(hu.T, np.diag([-0.5, -0.75, 2, 1])), path)
        return path
    image = itk.image_from_array(hu)
    image.SetSpacing(spacing)
    itk.imwrite(image, str(path))
    return path


def test_a_picture_and_vectors_are_clear_errors(tmp_path: Path, small_hu: np.ndarray) -> None:
    import itk

    vectors = itk.image_from_array(np.zeros((3, 4, 5, 3), np.float32), is_vector=True)
    itk.imwrite(vectors, str(tmp_path / "vectors.nrrd"))
    with pytest.raises(VolumeError, match="3 numbers per voxel"):
        CTVolume.open(tmp_path / "vectors.nrrd")
    with pytest.raises(VolumeError, match="at least 2 voxels"):
        CTVolume.open(write(tmp_path / "flat.mha", small_hu[:1]))


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        (".mhd", "0.75 2", "0.75 0", "spacing is"),
        (".nhdr", "(0,0,2)", "(0,0,0)", "spacing is"),
        (".nhdr", "(0,0,2)", "(0.4,0,2)", "sheared"),
        (".mhd", "0 0 1\n", "0 0.2 1\n", "sheared"),
    ],
)
def test_an_impossible_grid_is_a_clear_error(
    tmp_path: Path, small_hu: np.ndarray, suffix: str, old: str, new: str, message: str
) -> None:
    path = write(tmp_path / f"ct{suffix}", small_hu)
    header = path.read_text()
    assert old in header
    path.write_text(header.replace(old, new, 1))
    with pytest.raises(VolumeError, match=message) as caught:
        CTVolume.open(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("keep", [0, 0.1, 0.95])
def test_a_truncated_or_damaged_file_is_named(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 500, (20, 20, 20)).astype(np.int16)
    path = write(tmp_path / f"ct{suffix}", noise)
    raw = path.with_suffix(".raw") if suffix in (".nhdr", ".mhd") else path
    data = raw.read_bytes()
    raw.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(VolumeError, match=f"ct{suffix}") as caught:
        CTVolume.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("NDims", "1e308"),
        ("NDims", "0"),
        ("NDims", "11"),
        ("DimSize", "8 7"),
        ("DimSize", "8 7 -6"),
        ("ElementSpacing", "0.5 nan 2"),
        ("Offset", "1 2"),
        ("TransformMatrix", "1 0 0 0 1 0 0 0"),
        ("Comment", "x" * 5000),
        ("DimSize", "99999 99999 99999"),
    ],
)
def test_a_metaimage_header_that_would_crash_itk_is_refused(
    tmp_path: Path, small_hu: np.ndarray, field: str, value: str
) -> None:
    """ITK 5.4 reads a number of dimensions beyond its arrays, and ends the process."""
    path = write(tmp_path / "ct.mha", small_hu)
    head, end, voxels = path.read_bytes().partition(b"ElementDataFile")
    lines = [line for line in head.decode().splitlines() if not line.startswith(f"{field} =")]
    lines.insert(1, f"{field} = {value}")
    path.write_bytes("\n".join(lines).encode() + b"\n" + end + voxels)
    with pytest.raises(VolumeError, match=r"ct\.mha"):
        CTVolume.open(path)


def test_a_header_of_a_few_bytes_asks_for_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "ct.nrrd"
    grid = "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
    for sizes, encoding in (("4000 4000 4000", "raw"), ("1000 1000 1000", "gzip")):
        path.write_bytes(
            f"NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: {sizes}\n{grid}"
            f"endian: little\nencoding: {encoding}\n\nxxxx".encode()
        )
        with pytest.raises(VolumeError, match=r"ct\.nrrd (has|is truncated)"):
            CTVolume.open(path)


def test_an_upload_that_claims_more_than_its_bytes_can_hold_is_refused(tmp_path: Path) -> None:
    head = (
        b"NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\n"
        b"sizes: 1024 1024 1024\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        b"encoding: gzip\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "ct.nrrd"
    path.write_bytes(head + gzip.compress(bytes(2**24), mtime=0) * 64)
    with pytest.raises(VolumeError, match="no CT can be packed into"):
        image_file.try_header(path, tmp_path)
