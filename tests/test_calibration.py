"""Fitting of the constants between raw outputs and answers."""

import numpy as np
import pytest
import torch

from resmtnet.calibration import (
    Calibration,
    fit_decision_threshold,
    fit_embedding_spread,
    fit_platt,
    fit_size_quantile,
)
from resmtnet.network.uncertainty import mahalanobis, sigmoid


def test_platt_finds_the_scale_of_the_margins():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2, 5000)
    malignant = rng.random(5000) < sigmoid(1.7 * margin - 0.4)
    assert fit_platt(margin, malignant) == pytest.approx((1.7, -0.4), abs=0.15)


def test_threshold_is_the_least_that_is_right_often_enough():
    probability = np.concatenate([np.full(60, 0.55), np.full(100, 0.75), np.full(100, 0.95)])
    malignant = np.concatenate([np.arange(60) % 2, np.arange(100) < 92, np.ones(100)])
    assert fit_decision_threshold(probability, malignant) == 0.56
    assert fit_decision_threshold(np.full(9, 0.9), np.ones(9)) == 0.5
    assert fit_decision_threshold(np.full(9, 0.9), np.zeros(9)) == 0.8


def test_spread_makes_training_embeddings_typical():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(400, 8)) @ np.diag(np.arange(1, 9.0)) + 3
    mean, precision = fit_embedding_spread(embeddings)
    assert mahalanobis(embeddings, mean, precision).mean() == pytest.approx(1, abs=0.1)


def test_size_interval_covers_its_share():
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.05, 0.4, 4000)
    truth = rng.uniform(4, 30, 4000)
    measured = truth * np.exp(rng.normal(0, sigma))
    q = fit_size_quantile(measured[:2000], truth[:2000], sigma[:2000])
    inside = np.abs(np.log(measured / truth))[2000:] <= q * sigma[2000:]
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


def calibration(**changes) -> Calibration:
    values = {
        "class_slope": 2.0,
        "class_intercept": 0.5,
        "decision_threshold": 0.6,
        "mask_threshold": 0.4,
        "score_quantile": 1.5,
        "size_quantiles": {"volume_mm3": 1.0, "long_axis_mm": 1.0},
        "regressed_quantiles": {"long_axis_mm": 2.0},
        "ood_limit": 2.0,
        "baselines": {},
        "embedding_mean": np.zeros(3),
        "embedding_precision": np.eye(3),
    }
    return Calibration(**{**values, **changes})


def test_calibration_survives_its_json():
    one = calibration()
    values, arrays = one.to_json()
    other = Calibration.from_json(values, {k: torch.from_numpy(v) for k, v in arrays.items()})
    assert other.to_json()[0] == values
    np.testing.assert_array_equal(other.embedding_precision, one.embedding_precision)


def test_distance_is_a_share_of_the_limit():
    far = np.array([6.0, 0, 0])
    assert calibration().out_of_distribution(far) == pytest.approx(6 / np.sqrt(3) / 2)


def test_probability_follows_slope_and_intercept():
    logits = np.array([[0.0, 1.0]])
    assert float(calibration().probability_malignant(logits)[0]) == pytest.approx(
        float(sigmoid(2.5))
    )
