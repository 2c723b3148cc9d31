"""Whole-CT candidates: on balls and tubes in a plain chest, on the phantom, and on one real CT."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.phantom import NoduleSpec, make_phantom
from resmtnet.ct.volume import CTVolume
from resmtnet.errors import InputError
from resmtnet.inference.candidates import Candidate, find_candidates
from resmtnet.types import Point

SPACING_MM = 2.0
LUNG_RADIUS_MM = 60.0
BALLS: dict[Point, float] = {(10.0, 20.0, -15.0): 12.0, (-20.0, -10.0, 25.0): 8.0}
"""Diameter by centre, LPS mm; the middle of the lung is the origin."""


def _plain_chest(balls: dict[Point, float], tube_radius_mm: float = 0.0) -> CTVolume:
    """One round lung (-850 HU) in tissue (40 HU) in air, with balls and a tube along z (30 HU)."""
    axis = np.arange(-79.0, 80.0, SPACING_MM)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    hu = np.where(np.hypot(x, y) < 74, 40.0, -1000.0)
    hu[x * x + y * y + z * z < LUNG_RADIUS_MM**2] = -850
    for (cx, cy, cz), diameter_mm in balls.items():
        distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
        part = np.clip((diameter_mm / 2 - distance) / SPACING_MM + 0.5, 0, 1)
        hu += part * np.maximum(30 - hu, 0)
    if tube_radius_mm:
        part = np.clip((tube_radius_mm - np.hypot(x + 30, y - 20)) / SPACING_MM + 0.5, 0, 1)
        hu += part * np.maximum(30 - hu, 0)
    hu += np.random.default_rng(0).normal(0, 20, hu.shape)
    return CTVolume.from_array(
        np.rint(hu).astype(np.int16), (SPACING_MM,) * 3, (axis[0], axis[0], axis[0])
    )


def _nearest(found: list[Candidate], centre_lps_mm: Point) -> tuple[float, Candidate]:
    return min((math.dist(c.centre_lps_mm, centre_lps_mm), c) for c in found)


def _reoriented(ct: CTVolume, order_ijk: tuple[int, ...], flipped: tuple[int, ...]) -> CTVolume:
    """The same CT with its voxel axes (0 = i) reordered, then some of the new ones reversed."""
    grid, order = ct.geometry, list(order_ijk)
    hu = ct.array().transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    direction = grid.direction[:, order].copy()
    spacing_ijk = np.asarray(grid.spacing_mm)[order]
    origin = np.asarray(grid.origin_lps_mm)
    for axis in flipped:
        origin = origin + direction[:, axis] * spacing_ijk[axis] * (hu.shape[2 - axis] - 1)
        direction[:, axis] *= -1
        hu = np.flip(hu, 2 - axis)
    return CTVolume.from_array(hu, spacing_ijk[::-1], origin, direction)


@pytest.fixture(scope="module")
def plain() -> CTVolume:
    return _plain_chest(BALLS, tube_radius_mm=3.0)


@pytest.fixture(scope="module")
def found(plain: CTVolume) -> list[Candidate]:
    return find_candidates(plain, maximum=50)


def test_balls_in_a_lung_come_first_at_their_place_and_size(found: list[Candidate]) -> None:
    for centre, diameter_mm in BALLS.items():
        distance_mm, candidate = _nearest(found[:2], centre)
        assert distance_mm < 1
        assert candidate.diameter_mm == pytest.approx(diameter_mm, abs=2)


def test_a_vessel_scores_below_half_of_a_ball(found: list[Candidate]) -> None:
    vessel = [c for c in found if math.hypot(c.centre_lps_mm[0] + 30, c.centre_lps_mm[1] - 20) < 4]
    assert all(c.score < found[1].score / 2 for c in vessel)


def test_candidates_are_ranked_with_scores_between_0_and_1(found: list[Candidate]) -> None:
    scores = [c.score for c in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_candidates_lie_apart(found: list[Candidate]) -> None:
    for one, other in itertools.combinations(found, 2):
        apart_mm = math.dist(one.centre_lps_mm, other.centre_lps_mm)
        assert apart_mm >= max(5, one.diameter_mm / 2, other.diameter_mm / 2)


def test_maximum_keeps_the_best(plain: CTVolume, found: list[Candidate]) -> None:
    assert find_candidates(plain, maximum=1) == found[:1]


def test_maximum_below_1_is_refused(plain: CTVolume) -> None:
    with pytest.raises(InputError, match="maximum is 0"):
        find_candidates(plain, maximum=0)


@pytest.mark.parametrize(
    ("order_ijk", "flipped"), [((0, 1, 2), (2,)), ((2, 0, 1), (0, 1)), ((1, 2, 0), (0, 1, 2))]
)
def test_the_orientation_of_the_voxels_does_not_move_candidates(
    plain: CTVolume,
    found: list[Candidate],
    order_ijk: tuple[int, ...],
    flipped: tuple[int, ...],
) -> None:
    again = find_candidates(_reoriented(plain, order_ijk, flipped), maximum=50)
    assert len(again) == len(found)
    for one, other in zip(found, again, strict=True):
        assert math.dist(one.centre_lps_mm, other.centre_lps_mm) < 0.01


def test_an_oblique_grid_gives_points_in_lps(plain: CTVolume) -> None:
    angle = math.radians(20)
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    grid = plain.geometry
    oblique = CTVolume.from_array(
        plain.array(), grid.spacing_mm[::-1], turn @ grid.origin_lps_mm, turn
    )
    found = find_candidates(oblique, maximum=2)
    for centre in BALLS:
        x, y, z = (turn @ centre).tolist()
        assert _nearest(found, (x, y, z))[0] < 1


def test_a_nodule_on_the_pleura_is_found() -> None:
    centre = (0.0, LUNG_RADIUS_MM - 5, 0.0)
    distance_mm, _ = _nearest(find_candidates(_plain_chest({centre: 14.0}), maximum=3), centre)
    assert distance_mm < 4


def test_a_nodule_on_a_vessel_is_found() -> None:
    centre = (-30.0, 27.0, 0.0)
    found = find_candidates(_plain_chest({centre: 12.0}, tube_radius_mm=2.0), maximum=1)
    assert _nearest(found, centre)[0] < 3


def test_lungs_cut_off_by_the_field_of_view_are_searched(plain: CTVolume) -> None:
    start, size = (22, 22, 22), (36, 36, 36)
    grid: Geometry = plain.geometry.sub(start, size)
    hu = plain.array()[22:58, 22:58, 22:58]
    part = CTVolume.from_array(hu, grid.spacing_mm, grid.origin_lps_mm)
    assert _nearest(find_candidates(part, maximum=2), (10.0, 20.0, -15.0))[0] < 1


@pytest.mark.parametrize(
    "hu",
    [
        np.full((40, 40, 40), -1024, np.int16),
        np.full((40, 40, 40), 40, np.int16),
        np.full((40, 40, 40), -850, np.int16),
        np.full((3, 4, 5), -850, np.int16),
        np.full((1, 1, 1), -850, np.int16),
    ],
    ids=["air", "tissue", "empty lung", "tiny", "one voxel"],
)
def test_a_ct_without_lungs_or_nodules_gives_no_candidates(hu: np.ndarray) -> None:
    assert find_candidates(CTVolume.from_array(hu, (2.0, 2.0, 2.0))) == []


def test_nodules_of_the_phantom_of_6_to_20_mm_are_among_the_first_10() -> None:
    specs = [
        NoduleSpec(6),
        NoduleSpec(8),
        NoduleSpec(12, spiculation=0.8, lobulation=0.4),
        NoduleSpec(20, lobulation=0.5),
        NoduleSpec(10, "part-solid"),
        NoduleSpec(12, "non-solid"),
    ]
    spacing_mm = (2.5, 1.6, 1.6)
    phantom = make_phantom(3, (90, 200, 200), spacing_mm, specs)
    ct = CTVolume.from_array(phantom.hu, spacing_mm, phantom.geometry.origin_lps_mm)
    found = find_candidates(ct, maximum=10)
    for nodule in phantom.nodules:
        distance_mm, candidate = _nearest(found, nodule.centre_lps_mm)
        assert distance_mm < 2.5
        if nodule.texture == "solid":
            assert candidate.diameter_mm == pytest.approx(nodule.equivalent_diameter_mm, rel=0.25)


@pytest.mark.parametrize("ill", ["right lung gone", "fluid behind"])
def test_a_nodule_is_found_beside_what_fills_other_lung(ill: str) -> None:
    spacing_mm = (2.5, 1.6, 1.6)
    centre = (75.0, -30.0, 0.0)
    spec = NoduleSpec(10, centre_lps_mm=centre)
    phantom = make_phantom(3, (60, 200, 200), spacing_mm, [spec])
    k, j, i = np.indices(phantom.hu.shape)
    x, y, _ = np.moveaxis(phantom.geometry.ijk_to_lps(np.stack([i, j, k], -1)), -1, 0)
    filled = (x < 0) if ill == "right lung gone" else (y > 20)
    hu = np.where(filled & (phantom.hu < 0) & (phantom.hu > -950), 20, phantom.hu)
    ct = CTVolume.from_array(hu.astype(np.int16), spacing_mm, phantom.geometry.origin_lps_mm)
    distance_mm, _ = _nearest(find_candidates(ct, maximum=3), centre)
    assert distance_mm < 2.5


@pytest.mark.real_data
def test_smoke_the_nodule_of_one_real_ct_is_among_the_first_3(real_ct: Path) -> None:
    """One CT: a smoke test, not a recall figure."""
    found = find_candidates(CTVolume.open(real_ct), maximum=10)
    distance_mm, _ = _nearest(found[:3], (56.2, 86.2, -115.9))
    assert distance_mm < 5
