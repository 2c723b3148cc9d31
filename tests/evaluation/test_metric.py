"""The shortcuts for many draws give what the metric gives for each of them."""

import numpy as np
import pytest

from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.evaluation.uncertainty import error_detection_auc, with_entropy

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, 60).astype(float)
PROBABILITY = np.round(np.clip(0.3 * TRUTH + RNG.uniform(0, 0.7, 60), 0, 1), 1)
CASES = {
    "auc": (metrics.auc, PROBABILITY),
    "accuracy": (metrics.accuracy, PROBABILITY),
    "brier": (metrics.brier, PROBABILITY),
    "mean absolute error": (metrics.mean_absolute_error, PROBABILITY),
    "bias": (metrics.bias, PROBABILITY),
    "coverage": (metrics.coverage, np.column_stack([PROBABILITY - 0.3, PROBABILITY + 0.3])),
    "error detection": (error_detection_auc, with_entropy(PROBABILITY)),
}


@pytest.mark.parametrize(("metric", "answer"), CASES.values(), ids=CASES.keys())
def test_shortcut_agrees_with_the_metric_of_each_draw(metric, answer):
    resamples = Resamples([str(n // 2) for n in range(60)], BootstrapConfig(resamples=40))
    fast = resamples.replicate(metric, TRUTH, answer)
    slow = resamples.replicate(lambda t, a: metric(t, a), TRUTH, answer)
    assert fast.value == pytest.approx(slow.value)
    np.testing.assert_allclose(fast.draws, slow.draws, rtol=1e-12)


def test_draw_without_a_nodule_of_one_class_is_undefined():
    counts = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    found = metrics.auc.of_draws([0, 1, 0], [0.1, 0.8, 0.9], counts)
    assert found[0] == 0.5
    assert np.isnan(found[1:]).all()
