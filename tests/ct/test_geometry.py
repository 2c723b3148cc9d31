from __future__ import annotations

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.errors import VolumeError


def grid(**changes: object) -> Geometry:
    values: dict[str, object] = {
        "size_ijk": (10, 20, 30),
        "spacing_mm": (0.5, 0.75, 2.0),
        "origin_lps_mm": (1.0, 2.0, 3.0),
        "direction": np.eye(3),
    }
    return Geometry(**(values | changes))  # type: ignore[arg-type]


def test_index_to_lps_and_back_is_the_same_index(oblique: np.ndarray) -> None:
    geometry = grid(direction=oblique)
    ijk = np.array([[0, 0, 0], [3.5, -2, 29]])
    assert np.allclose(geometry.lps_to_ijk(geometry.ijk_to_lps(ijk)), ijk)


def test_columns_of_the_direction_are_the_voxel_axes(oblique: np.ndarray) -> None:
    geometry = grid(direction=oblique)
    step = geometry.ijk_to_lps((0, 1, 0)) - geometry.ijk_to_lps((0, 0, 0))
    assert np.allclose(step, 0.75 * oblique[:, 1])


def test_a_volume_contains_half_a_voxel_beyond_its_outer_centres() -> None:
    geometry = grid()
    assert geometry.contains((0.76, 2, 3))
    assert not geometry.contains((0.74, 2, 3))
    assert geometry.contains((1 + 9.49 * 0.5, 2, 3))
    assert not geometry.contains((1 + 9.51 * 0.5, 2, 3))


def test_a_sub_volume_lies_on_the_same_voxels(oblique: np.ndarray) -> None:
    geometry = grid(direction=oblique)
    part = geometry.sub((-2, 3, 4), (5, 6, 7))
    assert part.size_ijk == (5, 6, 7)
    assert np.allclose(part.ijk_to_lps((2, 0, 1)), geometry.ijk_to_lps((0, 3, 5)))


@pytest.mark.parametrize(("order", "axis"), [((0, 1, 2), 2), ((0, 2, 1), 1), ((2, 0, 1), 0)])
def test_the_slice_axis_is_the_one_along_the_patient(order: tuple[int, ...], axis: int) -> None:
    assert grid(direction=np.eye(3)[:, order]).slice_axis == axis
    assert grid(direction=-np.eye(3)[:, order]).slice_axis == axis


def test_the_direction_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid().direction[0, 0] = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": (1, 1, 0)}, "spacing is"),
        ({"spacing_mm": (1, 1, np.nan)}, "spacing is"),
        ({"spacing_mm": (1, 1)}, "needs 3 numbers"),
        ({"size_ijk": (4, 0, 4)}, "size"),
        ({"origin_lps_mm": (0, np.inf, 0)}, "origin"),
        ({"direction": np.eye(2)}, "3 x 3"),
        ({"direction": [[1, 0, 0.2], [0, 1, 0], [0, 0, 1]]}, "sheared"),
        ({"direction": np.zeros((3, 3))}, "not orthogonal"),
    ],
)
def test_an_impossible_grid_is_a_clear_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        grid(**changes)
