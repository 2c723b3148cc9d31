"""Files of label maps."""

from __future__ import annotations

from pathlib import Path

import itk
import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.errors import VolumeError
from resmtnet.readings.from_mask_file import read_label_map, write_mask


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


def test_half_a_file_is_refused(tmp_path: Path, grid: Geometry, mask: np.ndarray) -> None:
    for name in ("m.nrrd", "m.nii.gz"):
        write_mask(mask, grid, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 60])
        with pytest.raises(VolumeError):
            read_label_map(tmp_path / name)
