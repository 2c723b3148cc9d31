"""Uncertainty of predictions."""

import numpy as np
import pytest

from resmtnet.network.uncertainty import conformal_quantile, mahalanobis, mutual_information


def test_members_that_agree_have_no_mutual_information():
    assert mutual_information(np.array([[0.3, 0.7]] * 4)) == pytest.approx(0, abs=1e-12)


def test_distance_grows_along_the_narrow_axis_first():
    precision = np.linalg.inv(np.diag([1.0, 100.0]))
    narrow, wide = mahalanobis(np.array([[5.0, 0], [0, 5.0]]), np.zeros(2), precision)
    assert narrow == pytest.approx(10 * wide)


def test_typical_point_has_a_distance_of_about_one():
    points = np.random.default_rng(0).normal(size=(500, 40))
    assert mahalanobis(points, np.zeros(40), np.eye(40)).mean() == pytest.approx(1, abs=0.05)


def test_conformal_quantile_covers_new_scores():
    rng = np.random.default_rng(0)
    covered = [
        (rng.normal(size=200) ** 2 <= conformal_quantile(rng.normal(size=99) ** 2)).mean()
        for _ in range(200)
    ]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


def test_too_few_scores_promise_no_coverage():
    assert conformal_quantile(np.array([1.0, 3.0, 2.0]), 0.99) == np.inf
    assert conformal_quantile(np.ones(8), 0.9) == np.inf
    assert conformal_quantile(np.arange(9.0), 0.9) == 8
    assert conformal_quantile(np.array([])) == np.inf
