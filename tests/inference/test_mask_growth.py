"""Growing a mask from the click, and putting it on the CT's voxels."""

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.config import PatchConfig
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import measure
from resmtnet.inference.mask_growth import Stack, distance_mm, grow, to_voxels

CONFIG = PatchConfig()
GRID = Geometry((96, 96, 60), (0.7, 0.7, 1.25), (-33.0, -33.0, -36.0), np.eye(3))


class Balls:
    """Levels that show balls, and remembers which were asked for."""

    def __init__(self, *balls):
        self.balls, self.asked = balls, []

    def __call__(self, low, high):
        self.asked.append((low, high))
        line = np.arange(48) - 23.5
        z = np.arange(low, high + 1)[:, None, None]
        p = np.zeros((high - low + 1, 48, 48), np.float32)
        for (x0, y0, z0), radius in self.balls:
            distance = np.sqrt((line - x0) ** 2 + (line[:, None] - y0) ** 2 + (z - z0) ** 2)
            p = np.maximum(p, np.clip(radius - distance + 0.5, 0, 1).astype(np.float32))
        return p


def mask_of(levels, centre=(0.0, 0.0, 0.0), grid=GRID):
    return to_voxels(grow(levels, 0.5, CONFIG), 0.5, CONFIG, grid, centre)


@pytest.mark.parametrize("radius", [3.0, 7.0, 12.0])
def test_ball_keeps_its_size_and_place_on_the_voxels(radius):
    found = mask_of(Balls(((1.0, -2.0, 0.5), radius)))
    size = measure(found.mask, found.geometry)
    assert size.equivalent_diameter_mm == pytest.approx(2 * radius, rel=0.03)
    assert size.centroid_lps_mm == pytest.approx((1.0, -2.0, 0.5), abs=0.3)


def test_small_nodule_is_looked_at_once():
    levels = Balls(((0, 0, 0), 4))
    grow(levels, 0.5, CONFIG)
    assert levels.asked == [(-8, 8)]


def test_tall_nodule_is_followed_only_where_it_goes_on():
    levels = Balls(((0, 0, 6), 9))
    found = grow(Stack(levels), 0.5, CONFIG)
    assert levels.asked == [(-8, 8), (9, 16)]
    assert not found.cut


def test_levels_are_decoded_once_however_often_they_are_asked_for():
    levels = Balls(((0, 0, 0), 9))
    stack = Stack(levels)
    whole = Balls(((0, 0, 0), 9))(-12, 10)
    for low, high in ((-8, 8), (-12, 8), (-3, 3), (-12, 10)):
        np.testing.assert_allclose(stack(low, high), whole[low + 12 : high + 13], rtol=1e-5)
    assert levels.asked == [(-8, 8), (-12, -9), (9, 10)]


def test_coarser_levels_find_the_same_ball():
    class Coarse(Balls):
        def __call__(self, low, high):
            return super().__call__(2 * low, 2 * high)[::2]

    ball = ((1.0, -2.0, 0.5), 9.0)
    coarse = replace(CONFIG, mask_step_mm=2.0)
    found = to_voxels(grow(Coarse(ball), 0.5, coarse), 0.5, coarse, GRID, (0, 0, 0))
    size = measure(found.mask, found.geometry)
    assert size.equivalent_diameter_mm == pytest.approx(18, rel=0.03)
    assert size.centroid_lps_mm == pytest.approx((1.0, -2.0, 0.5), abs=0.3)


def test_distance_is_zero_at_the_click_and_counts_millimetres():
    far = distance_mm(-2, 5, replace(CONFIG, mask_step_mm=2.0))
    assert far.shape == (5, 48, 48)
    assert far[2, 23:25, 23:25].max() < 1
    assert far[0, 23, 23] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("first_reach_mm", [2.0, 8.0, 30.0])
def test_first_reach_decides_the_work_and_not_the_mask(first_reach_mm):
    levels = Balls(((1, 0, 2), 7))
    found = grow(levels, 0.5, CONFIG, first_reach_mm)
    expected = grow(levels, 0.5, CONFIG)
    assert found.probability.sum() == pytest.approx(expected.probability.sum())
    assert levels.asked[0] == (-first_reach_mm, first_reach_mm)


def test_the_nodule_at_the_click_is_taken_and_not_a_larger_one_beside_it():
    found = mask_of(Balls(((0, 0, 0), 3), ((15, 0, 0), 7)))
    assert measure(found.mask, found.geometry).equivalent_diameter_mm == pytest.approx(6, rel=0.05)


def test_click_beside_the_nodule_still_finds_it_within_six_mm():
    assert grow(Balls(((7, 0, 0), 3)), 0.5, CONFIG) is not None
    assert grow(Balls(((12, 0, 0), 3)), 0.5, CONFIG) is None


def test_nothing_there_gives_no_mask():
    assert grow(Balls(), 0.5, CONFIG) is None


@pytest.mark.parametrize("ball", [((20, 0, 0), 8), ((0, 0, 38), 44)])
def test_nodule_that_leaves_the_patch_is_called_cut(ball):
    levels = Balls(((0, 0, 0), 1), ball) if ball[1] == 8 else Balls(ball)
    levels.balls += (((6, 0, 0), 8),)
    assert grow(levels, 0.5, CONFIG).cut


def test_permuted_voxels_hold_the_same_mask():
    levels = Balls(((1.0, -2.0, 0.5), 6.0))
    turned = Geometry(
        (60, 96, 96),
        (1.25, 0.7, 0.7),
        (33.5, -33.0, -36.0),
        np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0.0]]),
    )
    one, other = mask_of(levels), mask_of(levels, grid=turned)
    sizes = [measure(m.mask, m.geometry) for m in (one, other)]
    assert sizes[0].volume_mm3 == pytest.approx(sizes[1].volume_mm3, rel=0.02)
    assert sizes[0].centroid_lps_mm == pytest.approx(sizes[1].centroid_lps_mm, abs=0.4)


def test_mask_does_not_reach_beyond_the_ct():
    small = Geometry((96, 96, 8), (0.7, 0.7, 1.25), (-33.0, -33.0, 0.0), np.eye(3))
    found = mask_of(Balls(((0, 0, 0), 8)), grid=small)
    assert found.start_ijk[2] == 0
    assert found.mask.shape[0] <= 8


def test_threshold_shrinks_the_mask():
    levels = Balls(((0, 0, 0), 6))
    sizes = []
    for threshold in (0.2, 0.8):
        patch = grow(levels, threshold, CONFIG)
        sizes.append(to_voxels(patch, threshold, CONFIG, GRID, (0, 0, 0)).mask.sum())
    assert sizes[0] > sizes[1]
