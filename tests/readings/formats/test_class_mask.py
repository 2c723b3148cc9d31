import gzip
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest

from resmtnet.ct import CTVolume, Geometry
from resmtnet.errors import InputError
from resmtnet.readings.formats import class_mask
from resmtnet.readings.formats.class_mask import (
    MASK_EXTENSIONS,
    mask_extension,
    write_ct,
    write_mask,
)


@pytest.fixture
def written(read_array: Any) -> Any:
    """Writes a mask, reads it back with ITK and deletes it."""

    def write(findings: list[Any], grid: Geometry, extension: str) -> tuple[np.ndarray, Any]:
        path = write_mask(findings, grid, extension)
        try:
            return read_array(path)
        finally:
            path.unlink()

    return write


@pytest.mark.parametrize("extension", MASK_EXTENSIONS)
def test_mask_is_class_coded_on_the_grid_of_the_ct(
    grid: Geometry, extension: str, make_finding: Any, written: Any
) -> None:
    findings = [make_finding(grid, (6, 6, 4), 0), make_finding(grid, (17, 13, 7), 1)]
    array, image = written(findings, grid, extension)
    assert array.dtype == np.uint8
    assert array.shape == grid.shape_kji
    assert np.allclose(itk.spacing(image), grid.spacing_mm, atol=1e-6)
    assert np.allclose(itk.origin(image), grid.origin_lps_mm, atol=1e-5)
    assert np.allclose(itk.array_from_matrix(image.GetDirection()), grid.direction, atol=1e-6)
    assert array[4, 6, 6] == 2
    assert array[7, 13, 17] == 1
    assert {n: int((array == n).sum()) for n in (1, 2, 3)} == {
        1: int(findings[1].mask.sum()),
        2: int(findings[0].mask.sum()),
        3: 0,
    }


def test_nrrd_tells_the_grid_exactly(grid: Geometry, written: Any) -> None:
    image = written([], grid, ".nrrd")[1]
    assert tuple(itk.origin(image)) == grid.origin_lps_mm
    assert np.allclose(itk.array_from_matrix(image.GetDirection()), grid.direction, atol=1e-15)


def test_the_more_malignant_nodule_wins_where_two_overlap(
    grid: Geometry, make_finding: Any, written: Any
) -> None:
    malignant, benign = make_finding(grid, (8, 8, 5), 0), make_finding(grid, (10, 8, 5), 1)
    for findings in ([malignant, benign], [benign, malignant]):
        array = written(findings, grid, ".nrrd")[0]
        assert (array == 2).sum() == malignant.mask.sum()
        assert (array == 1).any()


def test_a_mask_that_leaves_the_ct_is_cut(
    grid: Geometry, make_finding: Any, ball: Any, written: Any
) -> None:
    whole = ball(grid, (0, 19, 11), 4.0)[0].sum()
    array = written([make_finding(grid, (0, 19, 11), 2)], grid, ".nrrd")[0]
    assert array[11, 19, 0] == 3
    assert 0 < (array > 0).sum() < whole


def test_no_finding_and_no_mask_give_an_empty_mask(
    grid: Geometry, make_finding: Any, written: Any
) -> None:
    bare = make_finding(grid, (5, 5, 5), mask=None, start_ijk=None)
    for findings in ([], [bare]):
        assert not written(findings, grid, ".nii.gz")[0].any()


def test_gzip_is_one_valid_member(grid: Geometry, make_finding: Any) -> None:
    path = write_mask([make_finding(grid, (6, 6, 4))], grid, ".nii.gz")
    assert len(gzip.decompress(path.read_bytes())) == 352 + np.prod(grid.size_ijk)
    path.unlink()


def test_only_the_painted_slices_of_a_whole_chest_ct_are_compressed(
    make_finding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Geometry((512, 512, 133), (0.7, 0.7, 2.5), (0.0, 0.0, 0.0), np.eye(3))
    findings = [make_finding(grid, (300, 200, 60), radius_mm=15.0)]
    slices = int(findings[0].mask.any((1, 2)).sum())
    compressed = []
    deflate = class_mask._deflate
    monkeypatch.setattr(
        class_mask, "_deflate", lambda raw, level=1: compressed.append(raw) or deflate(raw, level)
    )
    for _ in range(2):  # the empty slice is compressed once, by the first
        compressed.clear()
        path = write_mask(findings, grid, ".nrrd")
        assert path.stat().st_size < 200_000
        path.unlink()
    assert [len(raw) for raw in compressed if raw] == [512 * 512] * slices


def test_extension_follows_the_request() -> None:
    assert mask_extension(".NII.GZ") == ".nii.gz"
    with pytest.raises(InputError, match=r"'\.png'.*\.nrrd"):
        mask_extension(".png")


def test_ct_is_written_in_hu_on_its_own_grid(
    tmp_path: Path, grid: Geometry, read_array: Any
) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 400, grid.shape_kji, np.int16)
    ct = CTVolume.from_array(
        voxels, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction, "ct"
    )
    write_ct(ct, tmp_path / "new" / "ct.nrrd")
    array, image = read_array(tmp_path / "new" / "ct.nrrd")
    assert np.array_equal(array, voxels)
    assert np.allclose(itk.origin(image), grid.origin_lps_mm)
    assert np.allclose(itk.array_from_matrix(image.GetDirection()), grid.direction)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ct.nrrd"]
