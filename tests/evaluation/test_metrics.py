import math

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    roc_auc_score,
)

from resmtnet.errors import InputError
from resmtnet.evaluation import metrics

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, 200).astype(float)
PROBABILITY = np.clip(np.round(0.3 * TRUTH + RNG.uniform(0, 0.7, 200), 2), 0, 1)


def test_metrics_agree_with_scikit_learn_ties_included():
    assert metrics.auc(TRUTH, PROBABILITY) == pytest.approx(roc_auc_score(TRUTH, PROBABILITY))
    assert metrics.brier(TRUTH, PROBABILITY) == pytest.approx(brier_score_loss(TRUTH, PROBABILITY))
    named = (PROBABILITY >= 0.5).astype(float)
    assert metrics.balanced_accuracy(TRUTH, named) == pytest.approx(
        balanced_accuracy_score(TRUTH, named)
    )


def test_kappa_agrees_with_scikit_learn_and_rounds_halves_up():
    truth, answer = RNG.integers(1, 6, 100), RNG.integers(1, 6, 100)
    expected = cohen_kappa_score(truth, answer, weights="linear")
    assert metrics.weighted_kappa(truth, answer) == pytest.approx(expected)
    assert metrics.weighted_kappa(truth - 0.5, answer - 0.5) == pytest.approx(expected)


def test_kappa_keeps_scores_beyond_the_scale_within_it():
    assert metrics.weighted_kappa([1, 5], [0.2, 7.0]) == 1.0


@pytest.mark.parametrize("truth", [[0, 0], [1, 1]])
def test_figures_that_need_both_classes_are_undefined_for_one(truth):
    assert math.isnan(metrics.auc(truth, [0.2, 0.8]))
    assert math.isnan(metrics.balanced_accuracy(truth, truth))


def test_constant_answers_have_an_auc_of_one_half():
    assert metrics.auc(TRUTH, np.full(200, 0.3)) == 0.5


def test_kappa_of_two_equal_constants_is_undefined():
    assert math.isnan(metrics.weighted_kappa([3, 3], [3, 3]))


def test_limits_of_agreement_lie_about_the_bias():
    truth, answer = RNG.normal(10, 2, 50), RNG.normal(11, 2, 50)
    low = metrics.lower_limit_of_agreement(truth, answer)
    high = metrics.upper_limit_of_agreement(truth, answer)
    assert (low + high) / 2 == pytest.approx(metrics.bias(truth, answer))
    assert high - low == pytest.approx(2 * 1.96 * np.std(answer - truth, ddof=1))
    assert math.isnan(metrics.lower_limit_of_agreement([1], [2]))


def test_coverage_counts_the_ends_of_an_interval():
    assert metrics.coverage([1, 2, 3], [[1, 2], [1, 2], [1, 2]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "metric", [metrics.auc, metrics.accuracy, metrics.brier, metrics.bias, metrics.coverage]
)
@pytest.mark.parametrize(("truth", "answer"), [([], []), ([1, 0], [1])])
def test_shapes_that_do_not_match_are_refused(metric, truth, answer):
    with pytest.raises(InputError, match="N > 0"):
        metric(truth, answer)
