"""Files of label maps."""

from __future__ import annotations

from pathlib import Path

import itk
import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.errors import VolumeError
from resmtnet.readings.formats.label_map import read_label_map, write_mask


@pytest.fixture
def grid() -> Geometry:
    axes = [[np.cos(0.3), np.sin(0.3), 0], [np.sin(0.3), -np.cos(0.3), 0], [0, 0, -1]]
    return Geometry((9, 8, 7), (0.7, 0.8, 1.5), (20.0, -30.0, 50.0), np.array(axes))


@pytest.fixture
def mask() -> np.ndarray:
    return (np.random.default_rng(0).random((7, 8, 9)) > 0.7).astype(np.uint8)


@pytest.mark.parametrize("name", ["m.nrrd", "m.nii.gz", "m.nii", "m.mha"])
def test_voxels_and_places_survive_every_format(
    tmp_path: Path, grid: Geometry, mask: np.ndarray, name: str
) -> None:
    write_mask(mask, grid, tmp_path / name)
    read = read_label_map(tmp_path / name)
    assert np.array_equal(read.mask, mask)
    index = (3, 2, 1)
    assert read.geometry.ijk_to_lps(index) == pytest.approx(grid.ijk_to_lps(index), abs=1e-3)


def test_an_image_is_no_label_map(tmp_path: Path) -> None:
    hu = np.full((4, 4, 4), -800, np.int16)
    itk.imwrite(itk.image_from_array(hu), str(tmp_path / "ct.nrrd"))
    with pytest.raises(VolumeError, match="not a label map"):
        read_label_map(tmp_path / "ct.nrrd")
    itk.imwrite(itk.image_from_array(np.full((4, 4, 4), 0.5, np.float32)), str(tmp_path / "p.nrrd"))
    with pytest.raises(VolumeError, match="not a label map"):
        read_label_map(tmp_path / "p.nrrd")


@pytest.mark.parametrize("name", ["m.nrrd", "m.nii.gz", "m.mha", "m.bin", "m.png"])
def test_what_cannot_be_read_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"NRRD0004\nnothing")
    with pytest.raises(VolumeError, match=name.replace(".", r"\.")):
        read_label_map(tmp_path / name)


NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 2\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 2\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("m.nrrd", NRRD + "data file: {}\n\n"),
        ("m.nrrd", NRRD + "DataFile: {}\n\n"),
        ("m.nrrd", NRRD.replace("\n", "\r") + "data file: {}\r\r"),
        ("m.nrrd", NRRD + "data file: LIST\n{}\n\n"),
        ("m.nhdr", NRRD + "data file: {}\n\n"),
        ("m.mhd", META + "ElementDataFile = {}\n"),
        ("m.mha", META + "ElementDataFile = {}\n"),
        ("M.MHA", "Comment = ElementDataFile = LOCAL\n" + META + "ElementDataFile : {}\n"),
    ],
)
def test_a_header_that_names_another_file_is_refused_before_that_file_is_read(
    tmp_path: Path, name: str, header: str
) -> None:
    (tmp_path / "other").write_bytes(bytes(range(32)))
    (tmp_path / name).write_bytes(header.format(tmp_path / "other").encode())
    with pytest.raises(VolumeError, match="names another file for the voxels; send one file"):
        read_label_map(tmp_path / name)


@pytest.mark.parametrize("name", ["m.nrrd", "m.mha"])
def test_a_file_is_read_as_its_suffix_says_and_not_as_its_content_does(
    tmp_path: Path, grid: Geometry, mask: np.ndarray, name: str
) -> None:
    """HDF5 can name other files for its voxels too, and ITK would take it under any suffix."""
    write_mask(mask, grid, tmp_path / "m.h5")
    (tmp_path / "m.h5").rename(tmp_path / name)
    with pytest.raises(VolumeError, match="not that of its suffix"):
        read_label_map(tmp_path / name)


def test_what_only_looks_like_the_name_of_a_file_is_read(
    tmp_path: Path, grid: Geometry, mask: np.ndarray
) -> None:
    write_mask(mask, grid, tmp_path / "m.nrrd")
    magic, rest = (tmp_path / "m.nrrd").read_bytes().split(b"\n", 1)
    told = b"\n# data file: none\ndata file:=none\n"
    (tmp_path / "m.nrrd").write_bytes(magic + told + rest)
    assert np.array_equal(read_label_map(tmp_path / "m.nrrd").mask, mask)


@pytest.mark.parametrize("name", ["m.nrrd", "m.mha", "m.nii.gz"])
def test_a_mask_of_too_many_voxels_is_refused_by_its_header(
    tmp_path: Path,
    grid: Geometry,
    mask: np.ndarray,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_mask(mask, grid, tmp_path / name)
    monkeypatch.setattr("resmtnet.readings.formats.label_map.MOST_VOXELS", mask.size)
    assert read_label_map(tmp_path / name).mask.shape == mask.shape
    monkeypatch.setattr("resmtnet.readings.formats.label_map.MOST_VOXELS", mask.size - 1)
    with pytest.raises(VolumeError, match="504 voxels; at most 503"):
        read_label_map(tmp_path / name)


def test_half_a_file_is_refused(tmp_path: Path, grid: Geometry, mask: np.ndarray) -> None:
    for name in ("m.nrrd", "m.nii.gz"):
        write_mask(mask, grid, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 60])
        with pytest.raises(VolumeError):
            read_label_map(tmp_path / name)
