"""Sizes of masks whose truth is known."""

import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import measure


def grid(mask: np.ndarray, spacing=(1.0, 1.0, 1.0), direction=None) -> Geometry:
    return Geometry(
        mask.shape[::-1], spacing, (0, 0, 0), np.eye(3) if direction is None else direction
    )


def test_box_has_its_diagonals_and_volume():
    mask = np.zeros((5, 20, 20), np.uint8)
    mask[2, 5:8, 4:8] = 1  # 3 x 4 voxels of 0.5 mm in one slice of 2 mm
    found = measure(mask, grid(mask, (0.5, 0.5, 2.0)))
    assert found.volume_mm3 == pytest.approx(12 * 0.5)
    assert found.long_axis_mm == pytest.approx(2.5)  # diagonal of 2.0 x 1.5 mm
    assert found.short_axis_mm == pytest.approx(2 * 2.0 * 1.5 / 2.5)
    assert found.centroid_lps_mm == pytest.approx((2.75, 3.0, 4.0))


def test_ball_has_its_diameter_on_every_axis():
    z, y, x = np.indices((40, 60, 60)) * np.array([1.0, 0.6, 0.6])[:, None, None, None]
    mask = (z - 20) ** 2 + (y - 18) ** 2 + (x - 18) ** 2 <= 36
    found = measure(mask, grid(mask, (0.6, 0.6, 1.0)))
    assert found.equivalent_diameter_mm == pytest.approx(12, rel=0.02)
    assert found.long_axis_mm == pytest.approx(12, abs=0.9)
    assert found.short_axis_mm == pytest.approx(12, abs=0.9)
    assert found.mean_diameter_mm == (found.long_axis_mm + found.short_axis_mm) / 2


def test_long_axis_is_sought_in_axial_slices_whatever_the_voxel_order():
    mask = np.zeros((20, 6, 6), np.uint8)
    mask[2:18, 3, 3] = 1  # a rod of 16 voxels along k
    along_s = measure(mask, grid(mask))
    assert along_s.long_axis_mm == pytest.approx(np.sqrt(2))
    turned = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0.0]])  # k runs along L
    assert measure(mask, grid(mask, direction=turned)).long_axis_mm == pytest.approx(
        np.hypot(16, 1)
    )


def test_ends_of_the_long_axis_are_as_far_apart_as_it_is_long():
    mask = np.zeros((3, 30, 30), np.uint8)
    mask[1, 4:9, 3:25] = 1
    found = measure(mask, grid(mask, (0.7, 0.7, 1.0)))
    one, other = map(np.array, found.long_axis_ends_lps_mm)
    assert np.linalg.norm(one - other) == pytest.approx(found.long_axis_mm)
    assert one[2] == other[2] == 1.0


def test_line_of_the_short_axis_is_as_long_and_perpendicular():
    mask = np.zeros((3, 30, 30), np.uint8)
    mask[1, 4:9, 3:25] = 1
    mask[1, 9:12, 5:9] = 1
    found = measure(mask, grid(mask, (0.7, 0.9, 1.0)))
    long_axis, short_axis = (
        np.subtract(*ends) for ends in (found.long_axis_ends_lps_mm, found.short_axis_ends_lps_mm)
    )
    assert np.linalg.norm(short_axis) == pytest.approx(found.short_axis_mm)
    assert long_axis @ short_axis == pytest.approx(0, abs=1e-9)
    assert found.short_axis_ends_lps_mm[0][2] == 1.0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_equally_long_axes_give_the_same_sizes_whatever_the_voxel_order(turns):
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = np.zeros((4, 9, 9), np.uint8)
        mask[rng.random(mask.shape) < 0.4] = 1
        turned = np.ascontiguousarray(np.rot90(mask, turns, (1, 2))[::-1])
        found, other = measure(mask, grid(mask)), measure(turned, grid(mask))
        assert other.long_axis_mm == pytest.approx(found.long_axis_mm)
        assert other.short_axis_mm == pytest.approx(found.short_axis_mm)


def test_empty_mask_has_no_size():
    mask = np.zeros((3, 3, 3), np.uint8)
    assert measure(mask, grid(mask)) is None
