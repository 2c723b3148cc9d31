"""The solid part of a nodule: cores of known size, vessels, blurred edges, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from resmtnet.ct.geometry import Geometry
from resmtnet.inference.solid_component import SolidCalibration, SolidComponent, solid_component

LUNG_HU, GLASS_HU, SOLID_HU = -850.0, -600.0, 30.0
SPACING_KJI = (1.25, 0.7, 0.7)


def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [
        step * (np.arange(n) - n // 2) for step, n in zip(SPACING_KJI, (25, 41, 41), strict=True)
    ]
    return tuple(np.meshgrid(*axes, indexing="ij"))


def _measured(
    core_mm: float, whole_mm: float = 18.0, vessel_mm: float = 0.0, **calibration: float
) -> SolidComponent:
    """A ball of ground glass with a core and a vessel along x, blurred, in lung."""
    z, y, x = _grid()
    distance = np.sqrt(z**2 + y**2 + x**2)
    inside = distance <= whole_mm / 2
    hu = np.where(inside, GLASS_HU, LUNG_HU)
    hu[np.hypot(y - 4, z) <= vessel_mm / 2] = SOLID_HU
    hu[distance <= core_mm / 2] = SOLID_HU
    hu = gaussian_filter(hu, [0.5 / step for step in SPACING_KJI])
    hu += np.random.default_rng(0).normal(0, 20, hu.shape)
    geometry = Geometry(hu.shape[::-1], SPACING_KJI[::-1], (0, 0, 0), np.eye(3))
    constants = SolidCalibration(**calibration)
    found = solid_component(
        hu.astype(np.int16), inside.astype(np.uint8), geometry, constants.from_hu, constants
    )
    assert found is not None
    return found


@pytest.mark.parametrize("core_mm", [5.0, 8.0, 12.0])
def test_core_of_a_part_solid_nodule_is_measured(core_mm: float) -> None:
    found = _measured(core_mm)
    assert found.mean_diameter_mm == pytest.approx(core_mm, abs=1.0)
    low, high = found.interval_mm
    assert low <= found.mean_diameter_mm <= high
    assert low <= core_mm <= high


def test_ground_glass_has_no_solid_part() -> None:
    assert _measured(0.0).mean_diameter_mm == 0


def test_vessel_through_ground_glass_is_no_solid_part() -> None:
    assert _measured(0.0, vessel_mm=1.8).mean_diameter_mm == 0


def test_vessel_beside_a_core_does_not_lengthen_it() -> None:
    assert _measured(8.0, vessel_mm=1.8).mean_diameter_mm == pytest.approx(8.0, abs=1.0)


@pytest.mark.parametrize("whole_mm", [4.0, 6.0, 12.0])
def test_solid_nodule_is_solid_to_its_rim(whole_mm: float) -> None:
    found = _measured(whole_mm, whole_mm)
    assert found.mean_diameter_mm >= 0.8 * whole_mm


def test_threshold_decides_what_is_solid() -> None:
    assert _measured(0.0, from_hu=-700.0).mean_diameter_mm > 10
    assert _measured(8.0, from_hu=200.0).mean_diameter_mm == 0


def test_interval_grows_with_the_error_of_the_edge() -> None:
    narrow, wide = (_measured(8.0, edge_error_hu=hu).interval_mm for hu in (20.0, 300.0))
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_interval_is_never_narrower_than_the_least_error() -> None:
    low, high = _measured(8.0, edge_error_hu=0.0, least_error_mm=1.5).interval_mm
    assert high - low >= 3.0


def test_empty_mask_has_no_answer() -> None:
    hu = np.zeros((3, 4, 5), np.int16)
    geometry = Geometry((5, 4, 3), (1, 1, 1), (0, 0, 0), np.eye(3))
    assert solid_component(hu, np.zeros((3, 4, 5), np.uint8), geometry, -300.0) is None


def test_texture_moves_the_threshold() -> None:
    constants = SolidCalibration(from_hu=-300.0, texture_shift_hu=100.0)
    assert constants.threshold_hu({"non-solid": 1.0, "solid": 0.0}) == -200
    assert constants.threshold_hu({"non-solid": 0.0, "solid": 1.0}) == -400


def test_json_round_trip() -> None:
    constants = SolidCalibration(-310.0, 20.0, 80.0, 0.7)
    assert SolidCalibration.from_json(constants.to_json()) == constants
    assert SolidCalibration.from_json({}) == SolidCalibration()
