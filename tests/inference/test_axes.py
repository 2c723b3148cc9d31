"""One definition of the sizes: a finding, its line in a viewer, and its mask when it comes back."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.measure import MEASURED
from resmtnet.findings import Finding
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.markups_write import markups

GRIDS = {
    "fine": ((1.0, 0.6, 0.6), np.eye(3)),
    "thick, not square": ((2.5, 0.7, 0.9), np.eye(3)),
    "feet first": ((1.25, 0.8, 0.8), np.diag([1.0, -1.0, -1.0])),
    "oblique": ((1.0, 0.7, 0.7), Rotation.from_euler("zx", [20, 15], degrees=True).as_matrix()),
    "slices along x": ((0.9, 1.0, 0.7), np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]])),
}


@pytest.fixture(scope="module")
def model() -> Characterizer:
    return Characterizer.load(device="cpu")


@pytest.fixture(scope="module", params=GRIDS.values(), ids=GRIDS)
def answered(request, model) -> tuple[CTVolume, Finding]:
    """An egg of 16 x 12 x 10 mm, and what is told of it."""
    spacing_mm, direction = request.param
    shape = [round(70 / mm) for mm in spacing_mm]
    grid = CTVolume.from_array(
        np.zeros(shape, np.int16), spacing_mm, (5.0, -7.0, 11.0), direction
    ).geometry
    index = np.stack(np.meshgrid(*map(np.arange, grid.size_ijk), indexing="ij"), -1)
    centre = grid.ijk_to_lps((np.array(grid.size_ijk) - 1) / 2)
    offset = (grid.ijk_to_lps(index) - centre) @ Rotation.from_euler("z", 0.6).as_matrix()
    inside = (((offset / [8, 6, 5]) ** 2).sum(-1) <= 1).transpose(2, 1, 0)
    hu = gaussian_filter(np.where(inside, 30.0, -850.0), 0.5 / np.array(spacing_mm))
    noise = np.random.default_rng(0).normal(0, 10, hu.shape)
    ct = CTVolume.from_array(
        (hu + noise).astype(np.int16), spacing_mm, grid.origin_lps_mm, direction
    )
    return ct, model(ct, [tuple(centre)])[0]


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_mask_that_comes_back_unchanged_reads_as_the_numbers_told(answered, extension):
    ct, finding = answered
    path = Path(write_mask([finding], ct.geometry, extension))
    try:
        sent = read_label_map(path)
    finally:
        path.unlink()
    value = int(sent.mask.max())
    read = from_mask(sent.mask, sent.geometry, [{"name": finding.class_name, "idx": value}])
    assert len(read.drafts) == 1
    for name in MEASURED:
        told, tolerance = getattr(finding.size, name), 0.1
        if name == "volume_mm3":
            tolerance = 1e-3 * told
        assert read.drafts[0].sizes[name] == pytest.approx(told, abs=tolerance), name


def test_line_that_is_drawn_is_as_long_as_the_long_axis_told(answered):
    ct, finding = answered
    line = next(n for n in markups([finding], ct.geometry)["markups"] if n["type"] == "Line")
    one, other = (np.array(point["position"]) for point in line["controlPoints"])
    assert np.linalg.norm(one - other) == pytest.approx(finding.size.long_axis_mm, abs=1e-3)


def test_ends_of_the_short_axis_are_as_far_apart_as_it_is_told(answered):
    _, finding = answered
    one, other = map(np.array, finding.short_axis_lps_mm)
    assert np.linalg.norm(one - other) == pytest.approx(finding.size.short_axis_mm)
