"""Bands of the predicted diameter, and intervals that cover each of them."""

import numpy as np
import pytest

from resmtnet.inference.conformal import (
    EDGES_MM,
    Bands,
    LogInterval,
    fit_bands,
    fit_log_interval,
    fit_widths,
)


def test_value_is_that_of_the_band_and_an_edge_belongs_to_the_larger():
    bands = Bands((6.0, 10.0), (1.0, 2.0, 3.0))
    assert [bands.at(mm) for mm in (1, 5.99, 6, 9.99, 10, 99)] == [1, 1, 2, 2, 3, 3]


def test_bands_survive_their_json():
    bands = Bands((6.0, 10.0), (1.0, 2.0, 3.0))
    assert Bands.from_json(bands.to_json()) == bands


def test_every_band_is_covered_though_one_is_noisier():
    rng = np.random.default_rng(0)
    diameter = rng.uniform(3, 30, 6000)
    scores = np.abs(rng.normal(0, np.where(diameter < 8, 3.0, 1.0)))
    fitted = fit_widths(scores[:3000], diameter[:3000])
    widths = np.array([fitted.at(mm) for mm in diameter[3000:]])
    inside, small = scores[3000:] <= widths, diameter[3000:] < 8
    assert inside[small].mean() == pytest.approx(0.9, abs=0.03)
    assert inside[~small].mean() == pytest.approx(0.9, abs=0.03)


def test_coverage_that_is_asked_is_given():
    rng = np.random.default_rng(0)
    scores, diameter = rng.uniform(0, 1, 2000), np.full(2000, 7.0)
    assert fit_widths(scores, diameter, coverage=0.5).at(7.0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("nodules", "known"), [(8, False), (9, True)])
def test_too_few_nodules_get_no_interval(nodules, known):
    rng = np.random.default_rng(0)
    error, diameter = rng.uniform(0.05, 0.2, nodules), np.full(nodules, 7.0)
    sigma, solid = rng.uniform(0.1, 0.2, nodules), np.zeros(nodules)
    assert (fit_widths(error, diameter) is not None) == known
    assert (fit_log_interval(error, sigma, solid, diameter) is not None) == known


def test_a_band_of_few_joins_its_smaller_neighbour():
    diameter = np.repeat([4.0, 7.0, 12.0], [50, 5, 20])
    fitted = fit_bands(diameter, lambda rows: float(len(rows)), (6.0, 10.0), fewest=15)
    assert fitted == Bands((6.0,), (50.0, 25.0))


def test_few_nodules_share_one_band():
    fitted = fit_bands(np.array([3.0, 40.0]), lambda rows: float(len(rows)), EDGES_MM)
    assert fitted == Bands((), (2.0,))


def test_subsolid_nodules_are_covered_though_they_are_few_and_noisy():
    rng = np.random.default_rng(0)
    sigma, diameter = rng.uniform(0.05, 0.3, 6000), rng.uniform(4, 30, 6000)
    subsolid = (rng.random(6000) < 0.2).astype(float)
    error = np.abs(rng.normal(0, sigma * np.where(subsolid, 3.0, 1.0)))
    half = slice(None, 3000)
    fitted = fit_log_interval(error[half], sigma[half], subsolid[half], diameter[half])
    inside = np.array(
        [
            e <= fitted.half_width(s, t, d)
            for e, s, t, d in zip(error, sigma, subsolid, diameter, strict=True)
        ]
    )[3000:]
    assert inside[subsolid[3000:] == 1].mean() == pytest.approx(0.9, abs=0.05)
    assert inside[subsolid[3000:] == 0].mean() == pytest.approx(0.9, abs=0.03)


def test_interval_survives_its_json():
    interval = LogInterval(0.1, 0.9, 0.3, Bands((6.0,), (1.0, 2.0)))
    assert LogInterval.from_json(interval.to_json()) == interval
