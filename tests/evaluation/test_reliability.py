import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from resmtnet.evaluation import calibration

RNG = np.random.default_rng(0)
PROBABILITY = RNG.uniform(0.02, 0.98, 4000)
TRUTH = (RNG.uniform(size=4000) < PROBABILITY).astype(float)
LOGIT = np.log(PROBABILITY / (1 - PROBABILITY))


def sharpened(factor: float, shift: float = 0.0) -> np.ndarray:
    return 1 / (1 + np.exp(-(factor * LOGIT + shift)))


def test_slope_agrees_with_scikit_learn():
    part = slice(0, 300)
    fitted = LogisticRegression(C=1e9, tol=1e-10).fit(LOGIT[part, None], TRUTH[part])
    slope = calibration.calibration_slope(TRUTH[part], PROBABILITY[part])
    assert slope == pytest.approx(fitted.coef_[0, 0], rel=1e-3)


def test_slope_is_one_for_calibrated_and_one_half_for_twice_too_extreme_probabilities():
    assert calibration.calibration_slope(TRUTH, PROBABILITY) == pytest.approx(1, abs=0.1)
    assert calibration.calibration_slope(TRUTH, sharpened(2)) == pytest.approx(0.5, abs=0.05)


def test_intercept_is_the_shift_of_the_probabilities_with_its_sign_turned():
    assert calibration.calibration_intercept(TRUTH, PROBABILITY) == pytest.approx(0, abs=0.1)
    assert calibration.calibration_intercept(TRUTH, sharpened(1, 1)) == pytest.approx(-1, abs=0.1)


def test_debiased_error_of_calibrated_probabilities_on_few_nodules_is_lower_than_the_plain_one():
    plain, debiased = [], []
    for start in range(0, 4000, 100):
        part = slice(start, start + 100)
        plain.append(calibration.calibration_error(TRUTH[part], PROBABILITY[part]))
        debiased.append(calibration.debiased_calibration_error(TRUTH[part], PROBABILITY[part]))
    assert np.mean(plain) > 0.08
    assert np.mean(debiased) < 0.06


def test_debiased_error_finds_a_true_one():
    wrong = np.clip(PROBABILITY * 0.5, 0, 1)
    expected = np.sqrt(np.mean((wrong - PROBABILITY) ** 2))
    found = calibration.debiased_calibration_error(TRUTH, wrong)
    assert found == pytest.approx(expected, rel=0.1)


def test_bins_have_equal_mass_and_few_nodules_make_few_bins():
    assert calibration.reliability_bins(TRUTH, PROBABILITY)[:, 2].tolist() == [400] * 10
    assert calibration.reliability_bins(TRUTH[:11], PROBABILITY[:11])[:, 2].tolist() == [6, 5]
    assert len(calibration.reliability_bins([1], [0.5])) == 1


@pytest.mark.parametrize(
    ("truth", "probability"),
    [([1, 1], [0.2, 0.8]), ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), ([0, 1, 0, 1], [0.5] * 4)],
    ids=["one class", "separated classes", "constant probability"],
)
def test_slope_is_undefined_where_it_has_no_maximum(truth, probability):
    assert math.isnan(calibration.calibration_slope(truth, probability))


def test_probabilities_of_zero_and_one_do_not_break_the_slope():
    slope = calibration.calibration_slope([0, 1, 0, 1, 1], [0.0, 1.0, 1.0, 0.0, 1.0])
    assert math.isfinite(slope)
