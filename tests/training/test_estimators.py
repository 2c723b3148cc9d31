"""Small fits between scores and truths."""

import numpy as np
import pytest

from resmtnet.network.uncertainty import sigmoid, softmax
from resmtnet.training.estimators import (
    fit_decision_threshold,
    fit_platt,
    fit_temperature,
    fit_vector_scaling,
)


def test_platt_finds_the_scale_of_the_margins():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2, 5000)
    malignant = rng.random(5000) < sigmoid(1.7 * margin - 0.4)
    slopes, intercept = fit_platt({"margin": margin}, malignant, np.ones(5000))
    assert slopes["margin"] == pytest.approx(1.7, abs=0.15)
    assert intercept == pytest.approx(-0.4, abs=0.15)


def test_features_that_agree_share_the_slope():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2, 120)
    other = margin + rng.normal(0, 0.1, 120)
    malignant = rng.random(120) < sigmoid(margin)
    slopes, _ = fit_platt({"a": margin, "b": other}, malignant, np.ones(120))
    assert min(slopes.values()) > 0
    assert max(slopes.values()) < 1.5 * min(slopes.values())


def test_feature_that_never_varies_gets_no_slope():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2, 200)
    malignant = rng.random(200) < sigmoid(margin)
    slopes, _ = fit_platt({"a": margin, "b": np.zeros(200)}, malignant, np.ones(200))
    assert slopes["b"] == 0
    assert slopes["a"] > 0.5


def test_nodules_without_weight_are_not_heard():
    margin = np.array([-2.0, -1.0, 1.0, 2.0, -2.0, 2.0] * 20)
    malignant = np.array([0, 1, 0, 1, 1, 0] * 20)
    weight = np.array([1, 1, 1, 1, 0, 0] * 20)
    assert fit_platt({"m": margin}, malignant, weight)[0]["m"] > 0.3


def test_threshold_is_the_least_that_is_right_often_enough():
    probability = np.concatenate([np.full(60, 0.55), np.full(100, 0.75), np.full(100, 0.95)])
    malignant = np.concatenate([np.arange(60) % 2, np.arange(100) < 92, np.ones(100)])
    assert fit_decision_threshold(probability, malignant) == 0.56
    assert fit_decision_threshold(np.full(9, 0.9), np.ones(9)) == 0.5
    assert fit_decision_threshold(np.full(9, 0.9), np.zeros(9)) == 0.8


def draws(rng, shares):
    return np.array([rng.multinomial(3, row) for row in shares])


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (2000, 5))
    counts = draws(rng, softmax(logits))
    assert fit_temperature(2.5 * logits, counts) == pytest.approx(2.5, rel=0.1)


def test_offsets_undo_the_class_weights_of_training():
    rng = np.random.default_rng(0)
    logits, shift = rng.normal(0, 1, (4000, 3)), np.array([-1.0, -1.0, 2.0])
    target = draws(rng, softmax(logits + shift)).argmax(1)
    temperature, offsets = fit_vector_scaling(logits, target)
    told = softmax(logits / temperature + np.array(offsets))
    assert sum(offsets) == pytest.approx(0, abs=1e-9)
    assert told.mean(0) == pytest.approx(np.bincount(target, minlength=3) / 4000, abs=0.01)
