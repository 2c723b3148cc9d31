"""Registration by elastix: places are found again in a chest that a known field has deformed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import FollowUp, NoduleSpec, Phantom, make_follow_up
from resmtnet.followup.registration import Registration, register
from resmtnet.inference.candidates.lungs import LEFT, RIGHT

FARTHEST_MM = 12.0


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """contextlib.chdir, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def ct_of(phantom: Phantom, away_mm: float = 0.0) -> CTVolume:
    grid = phantom.geometry
    x, y, z = grid.origin_lps_mm
    return CTVolume.from_array(phantom.hu, grid.spacing_mm[::-1], (x + away_mm, y, z - away_mm))


@pytest.fixture(scope="module")
def pair() -> FollowUp:
    return make_follow_up(
        5,
        [NoduleSpec(12.0)],
        [1.0],
        largest_mm=FARTHEST_MM,
        shape_kji=(78, 70, 100),
        spacing_mm=(2.8, 2.6, 2.6),
        centre_lps_mm=(0.0, 2.0, -5.0),
    )


AWAY_MM = 150.0
"""The current CT lies elsewhere on its table."""


@pytest.fixture(scope="module")
def found(pair: FollowUp, tmp_path_factory: pytest.TempPathFactory) -> Registration:
    folder = tmp_path_factory.mktemp("empty")
    with chdir(folder):
        registered = register(ct_of(pair.prior), ct_of(pair.current, AWAY_MM))
    assert list(folder.iterdir()) == []
    return registered


def places(found: Registration) -> np.ndarray:
    lungs = found.prior
    index = np.argwhere(lungs.sides > 0)[::211]
    return lungs.grid.geometry.ijk_to_lps(index[:, ::-1])


def truth(pair: FollowUp, lps_mm: np.ndarray) -> np.ndarray:
    return pair.field.to_current(lps_mm) + np.array([AWAY_MM, 0.0, -AWAY_MM])


def test_places_of_the_lungs_are_found_in_the_current_ct(
    pair: FollowUp, found: Registration
) -> None:
    points = places(found)
    told = np.array([found.to_current(point) for point in points])
    error = np.linalg.norm(told - truth(pair, points), axis=1)
    assert np.linalg.norm(truth(pair, points) - points, axis=1).min() > 100
    assert np.median(error) < 1.5
    assert np.percentile(error, 95) < 5.0


def test_the_way_back_leads_to_where_it_began(found: Registration) -> None:
    for point in places(found)[::5]:
        assert found.to_prior(found.to_current(point)) == pytest.approx(point, abs=0.5)


def test_the_lungs_fall_on_each_other(found: Registration) -> None:
    assert found.is_good
    assert found.overlap > 0.9


def test_the_sides_are_those_of_the_patient(found: Registration) -> None:
    assert found.prior.side((-70.0, 0.0, 10.0)) == RIGHT
    assert found.prior.side((70.0, 0.0, 10.0)) == LEFT
    assert found.current.side((AWAY_MM - 70.0, 0.0, 10.0 - AWAY_MM)) == RIGHT
