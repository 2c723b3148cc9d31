"""Application of the fitted constants, and their JSON."""

import json

import numpy as np
import pytest

from resmtnet.inference.calibration import SPEAKING, Calibration, TextureCalibration, class_features
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.out_of_distribution import OutOfDistribution, TypicalRange
from resmtnet.network.uncertainty import sigmoid

OUTPUTS = {
    **{name: np.zeros(5) for name in SPEAKING},
    "class": np.array([0.0, 1.0]),
    "malignancy": np.array([0.0, 0, 0, 0, 50]),
    "spiculation": np.array([50.0, 0, 0, 0, 0]),
}


def test_probability_follows_slope_and_intercept_of_the_margin():
    told = Calibration(class_slopes={"margin": 2.0}, class_intercept=0.5)
    assert float(told.probability_malignant(OUTPUTS)) == pytest.approx(float(sigmoid(2.5)))


def test_score_joins_the_margin_where_it_has_a_slope():
    told = Calibration(class_slopes={"margin": 1.0, "score": 3.0})
    assert float(told.probability_malignant(OUTPUTS)) == pytest.approx(float(sigmoid(1 + 3 * 2)))


def test_features_keep_the_axes_of_members_and_views():
    outputs = {name: np.broadcast_to(v, (2, 4, len(v))) for name, v in OUTPUTS.items()}
    assert {name: v.shape for name, v in class_features(outputs).items()} == dict.fromkeys(
        ("margin", "score", *(f"rating.{name}" for name in SPEAKING)), (2, 4)
    )


def test_what_a_nodule_looks_like_moves_its_class():
    told = Calibration(class_slopes={"margin": 1.0, "rating.spiculation": 2.0})
    assert float(told.probability_malignant(OUTPUTS)) == pytest.approx(float(sigmoid(1 - 2 * 2)))


def test_temperature_softens_the_ratings():
    sharp, soft = (Calibration(malignancy_temperature=t).malignancy(OUTPUTS) for t in (1.0, 100.0))
    assert sharp[4] == pytest.approx(1)
    assert soft[4] < 0.4
    assert soft.sum() == pytest.approx(1)


def test_texture_offsets_and_temperature_shape_the_probabilities():
    texture = TextureCalibration(2.0, (np.log(2.0), 0.0, 0.0))
    told = texture.probabilities(np.array([0.0, 2 * np.log(2.0), 0.0]))
    assert told == pytest.approx([0.4, 0.4, 0.2])


def test_calibration_survives_its_json():
    one = Calibration(
        class_slopes={"margin": 2.0, "score": 0.3},
        class_intercept=0.5,
        decision_threshold=0.6,
        malignancy_temperature=0.8,
        texture=TextureCalibration(1.5, (0.1, 0.2, -0.3), (0.1, 0.1, 0.8)),
        mask_thresholds=Bands((8.0,), (0.35, 0.45)),
        score_widths=Bands((), (1.5,)),
        size_intervals={"volume_mm3": LogInterval(1.1, 0.9, 0.2, Bands((6.0,), (1.0, 1.2)))},
        regressed_intervals={"long_axis_mm": LogInterval(0.0, 1.0, 0.0, Bands((), (2.0,)))},
        out_of_distribution=OutOfDistribution(
            {"mask": TypicalRange(1.0, 2.0)}, 1.5, np.zeros(3), np.eye(3)
        ),
        baselines={"nodules": 3},
    )
    values, arrays = one.to_json()
    other = Calibration.from_json(json.loads(json.dumps(values)), arrays)
    assert other.to_json()[0] == values
    for name in ("texture", "mask_thresholds", "score_widths", "size_intervals"):
        assert getattr(other, name) == getattr(one, name)
    np.testing.assert_array_equal(
        other.out_of_distribution.precision, one.out_of_distribution.precision
    )


def test_factors_of_the_axes_of_older_models_are_ignored():
    values, arrays = Calibration(class_intercept=0.5).to_json()
    older = {**values, "size_scales": {"long_axis_mm": 1.03, "short_axis_mm": 0.93}}
    read = Calibration.from_json(older, arrays)
    assert read.to_json()[0] == values


def test_uncalibrated_model_survives_its_json():
    values, arrays = Calibration().to_json()
    assert Calibration.from_json(values, arrays).score_widths is None
