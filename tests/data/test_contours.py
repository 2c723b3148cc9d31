"""Sizes and masks from one reader's contours."""

import math

import numpy as np
import pytest

from resmtnet.data.contours import (
    Annotation,
    Contour,
    axes_mm,
    centre_of,
    coverage,
    reader_sizes,
    volume_mm3,
)


def rectangle(z, x, y, width, height, inclusion=True):
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return Contour(z, np.array(corners, float), inclusion)


def test_volume_is_area_times_spacing_without_the_holes():
    contours = [
        rectangle(0, 2, 2, 10, 8),
        rectangle(2.5, 2, 2, 10, 8),
        rectangle(2.5, 4, 4, 2, 2, inclusion=False),
    ]
    assert volume_mm3(contours, 0.5, 2.5) == pytest.approx((80 + 80 - 4) * 0.25 * 2.5)


def test_axes_are_of_the_slice_with_the_longest_and_perpendicular_to_it():
    wide_but_short = rectangle(0, 0, 0, 9, 9)
    long = rectangle(2, 0, 0, 20, 1)
    long_axis, short_axis = axes_mm([wide_but_short, long], 0.5)
    assert long_axis == pytest.approx(0.5 * math.hypot(20, 1))
    assert short_axis == pytest.approx(0.5 * 2 * 20 / math.hypot(20, 1))


def test_a_hole_has_no_axes():
    assert math.isnan(axes_mm([rectangle(0, 0, 0, 9, 9, inclusion=False)], 1.0)[0])


def test_coverage_adds_slices_and_takes_holes_out():
    contours = [
        rectangle(-10, 12, 22, 6, 6),
        rectangle(-7.5, 12, 22, 6, 6),
        rectangle(-7.5, 14, 24, 2, 2, inclusion=False),
        rectangle(90, 12, 22, 6, 6),
    ]
    inside = coverage(contours, (10.0, 20.0, -12.5), 2.5, (4, 12, 12))
    assert inside.sum((1, 2)).tolist() == pytest.approx([0, 36, 32, 0])
    assert inside[1, 5, 5] == 1
    assert inside[2, 5, 5] == 0


def test_slices_may_run_downwards():
    inside = coverage([rectangle(-10, 1, 1, 4, 4)], (0.0, 0.0, -5.0), -2.5, (4, 8, 8))
    assert inside.sum((1, 2)).tolist() == pytest.approx([0, 0, 16, 0])


def test_readers_sizes_stand_in_the_order_of_the_readers():
    small, large = (
        Annotation((rectangle(0, 1, 1, n, n), rectangle(2, 1, 1, n, n)), {}) for n in (4, 8)
    )
    sizes = reader_sizes([small, large], 0.5, 2.0)
    assert sizes.volumes_mm3 == (16.0, 64.0)
    assert sizes.long_axes_mm == pytest.approx((4 * 0.5 * 2**0.5, 8 * 0.5 * 2**0.5), abs=1e-3)
    assert sizes.short_axes_mm == pytest.approx(sizes.long_axes_mm, abs=1e-3)
    # half a pixel on each side: 4 and 8 wide squares cover 5 and 9 pixels by half or more
    assert sizes.dice == pytest.approx(2 * 25 / (25 + 81), abs=0.15)
    assert reader_sizes([small], 0.5, 2.0).dice is None


def test_the_centre_is_that_of_what_half_the_readers_marked():
    share = np.zeros((3, 9, 9))
    share[:, 2:5, 2:7] = 0.5
    share[:, 2:9, 2:7] += 0.25
    assert centre_of(share) == (1, 3, 4)
    assert centre_of(share * 0.4) == (1, 5, 4)
