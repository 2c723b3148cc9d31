"""Phantom pairs: a chest deformed by a known field, in which nodules grow as asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resmtnet.ct.phantom import FollowUp, NoduleSpec, make_follow_up
from resmtnet.errors import InputError

LUNG = (-75.0, 5.0, 20.0)


def made(*growth: float | None, seed: int = 1, **options) -> FollowUp:
    options.setdefault("noise_hu", (0.0, 0.0))
    specs = [
        NoduleSpec(10.0, centre_lps_mm=(-75.0, 5.0, 20.0 + 20 * n)) for n in range(len(growth))
    ]
    return make_follow_up(
        seed,
        specs,
        growth,
        shape_kji=(56, 60, 60),
        spacing_mm=(1.5, 1.2, 1.2),
        centre_lps_mm=LUNG,
        **options,
    )


@pytest.fixture(scope="module")
def pair() -> FollowUp:
    return made(2.0, None, largest_mm=8.0)


def test_a_nodule_has_grown_by_what_was_asked(pair: FollowUp) -> None:
    before, now = pair.prior.nodules[0], pair.current.nodules[0]
    assert now.volume_mm3 / before.volume_mm3 == pytest.approx(2.0, rel=0.03)
    assert now.mean_diameter_mm / before.mean_diameter_mm == pytest.approx(2 ** (1 / 3), rel=0.03)


def test_a_nodule_that_is_gone_is_in_the_prior_alone(pair: FollowUp) -> None:
    assert pair.pairs == ((0, 0), (1, None))
    assert len(pair.current.nodules) == 1


def test_a_nodule_moves_with_the_field(pair: FollowUp) -> None:
    before, now = pair.prior.nodules[0], pair.current.nodules[0]
    assert math.dist(before.centre_lps_mm, now.centre_lps_mm) > 0.5
    assert pair.field.to_prior(np.array(now.centre_lps_mm)) == pytest.approx(
        before.centre_lps_mm, abs=0.01
    )


def test_the_chest_is_deformed_as_the_field_says(pair: FollowUp) -> None:
    grid = pair.current.geometry
    j, i = 30, 12
    for k in range(4, 50, 6):
        place = pair.field.to_prior(grid.ijk_to_lps((i, j, k)))
        if not pair.prior.geometry.contains(place):
            continue
        x, y, z = np.rint(pair.prior.geometry.lps_to_ijk(place)).astype(int)
        near = pair.prior.hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
        assert near.min() - 60 <= pair.current.hu[k, j, i] <= near.max() + 60


def test_a_plane_of_the_field_is_the_field(pair: FollowUp) -> None:
    x, y = np.array([-80.0, -60.0]), np.array([0.0, 10.0, 30.0])
    plane = pair.field.plane_to_prior(x, y, 25.0)
    assert plane[2, 1] == pytest.approx(pair.field.to_prior(np.array([-60.0, 30.0, 25.0])))


def test_no_displacement_is_greater_than_asked() -> None:
    field = made(1.0, largest_mm=6.0).field
    points = np.random.default_rng(0).uniform(-100, 100, (4000, 3))
    moved = np.linalg.norm(field.to_prior(points) - points, axis=1)
    assert 4.0 < moved.max() < 7.5


def test_the_current_ct_may_have_other_slices_and_noise() -> None:
    pair = made(1.0, current_spacing_mm=(3.0, 1.0, 1.0), noise_hu=(0.0, 40.0))
    assert pair.current.geometry.spacing_mm == (1.0, 1.0, 3.0)
    assert pair.current.hu.shape == (28, 72, 72)


def test_each_nodule_needs_a_growth() -> None:
    with pytest.raises(InputError, match="one for each"):
        make_follow_up(1, [NoduleSpec()], [])
