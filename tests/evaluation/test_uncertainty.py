import math

import numpy as np
import pytest

from resmtnet.evaluation.uncertainty import (
    accuracy_gain,
    error_detection_auc,
    risk_coverage,
    with_entropy,
)

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], float)
PROBABILITY = np.array([0.1, 0.2, 0.6, 0.7, 0.3, 0.9, 0.8, 0.7, 0.9, 0.9])
WRONG = np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0], float)


def test_uncertainty_that_is_highest_on_the_errors_finds_them_all():
    assert error_detection_auc(TRUTH, np.column_stack([PROBABILITY, WRONG])) == 1
    assert error_detection_auc(TRUTH, np.column_stack([PROBABILITY, -WRONG])) == 0


def test_uncertainty_that_is_constant_finds_errors_by_chance():
    assert error_detection_auc(TRUTH, np.column_stack([PROBABILITY, np.ones(10)])) == 0.5


def test_error_detection_is_undefined_without_errors():
    right = np.column_stack([TRUTH * 0.8 + 0.1, np.arange(10)])
    assert math.isnan(error_detection_auc(TRUTH, right))


def test_dropping_the_two_most_uncertain_of_ten_lifts_the_accuracy_by_what_they_were_wrong():
    uncertainty = WRONG.copy()
    uncertainty[4] = 0.5  # of the three errors, this one is kept
    gain = accuracy_gain(TRUTH, np.column_stack([PROBABILITY, uncertainty]))
    assert gain == pytest.approx((1 - 1 / 8) - 0.7)


def test_dropping_right_answers_costs_accuracy():
    assert accuracy_gain(TRUTH, np.column_stack([PROBABILITY, 1 - WRONG])) < 0


def test_risk_ends_at_the_error_rate_of_all():
    curve = risk_coverage(TRUTH, np.column_stack([PROBABILITY, WRONG]))
    assert curve[-1].tolist() == pytest.approx([1.0, 0.3])
    assert (curve[:7, 1] == 0).all()


def test_entropy_is_largest_at_one_half_and_none_at_certainty():
    entropy = with_entropy([0.0, 0.3, 0.5, 0.7, 1.0])[:, 1]
    assert entropy[[0, 4]].tolist() == [0, 0]
    assert entropy[1] == pytest.approx(entropy[3])
    assert entropy.argmax() == 2
