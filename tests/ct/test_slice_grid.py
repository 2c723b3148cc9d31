from __future__ import annotations

import numpy as np
import pytest

from resmtnet.ct.slice_grid import slice_grid
from resmtnet.errors import VolumeError


def test_even_slices_are_taken_as_they_are() -> None:
    grid = slice_grid(np.arange(5) * 2.5 - 10)
    assert grid.spacing_mm == 2.5
    assert grid.below.tolist() == [0, 1, 2, 3, 4]
    assert not grid.interpolated.any()
    assert grid.warnings == ()


def test_jitter_of_the_positions_is_not_an_uneven_spacing() -> None:
    grid = slice_grid(np.array([0.0, 1.02, 1.98, 3.05, 4.0]))
    assert grid.spacing_mm == pytest.approx(1.0)
    assert not grid.interpolated.any()
    assert grid.warnings == ()


def test_missing_slices_are_interpolated_counted_and_named() -> None:
    grid = slice_grid(np.array([0, 1, 4, 5, 7], float))
    assert grid.below.tolist() == [0, 1, 1, 1, 2, 3, 3, 4]
    assert np.allclose(grid.weight, [0, 0, 1 / 3, 2 / 3, 0, 0, 0.5, 0])
    (text,) = grid.warnings
    assert text.startswith("3 slices are missing")
    assert "k = 2-3 (2.0 to 3.0 mm), 6 (6.0 mm)" in text


def test_uneven_spacing_is_resampled_to_an_even_stack_and_said() -> None:
    positions = np.array([0, 1, 2, 3, 4.5, 6.2, 8], float)
    grid = slice_grid(positions)
    above = np.minimum(grid.below + 1, len(positions) - 1)
    place = (1 - grid.weight) * positions[grid.below] + grid.weight * positions[above]
    assert np.allclose(place, np.arange(len(place)) * grid.spacing_mm, atol=0.1 * grid.spacing_mm)
    assert "uneven (1 to 1.8 mm)" in grid.warnings[0]


def test_two_slices_make_a_stack() -> None:
    assert slice_grid(np.array([0.0, 5.0])).below.tolist() == [0, 1]


def test_a_series_of_which_most_is_missing_is_an_error() -> None:
    with pytest.raises(VolumeError, match=r"Only 3 of 101 slices"):
        slice_grid(np.array([0.0, 1.0, 100.0]))
