from collections.abc import Sequence

import numpy as np
import pytest

from alike import assert_alike
from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig, Estimate, Resamples, Statistic
from resmtnet.evaluation.metrics import auc

RNG = np.random.default_rng(0)


def mean(_: np.ndarray, answer: np.ndarray) -> float:
    return float(np.mean(answer))


def estimate(
    patients: Sequence[str],
    config: BootstrapConfig,
    statistic: Statistic,
    truth: np.ndarray,
    answer: np.ndarray | None = None,
) -> Estimate:
    resamples = Resamples(patients, config)
    replicates = resamples.replicate(statistic, truth, truth if answer is None else answer)
    return replicates.estimate(config.confidence)


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_interval_of_a_mean_is_that_of_theory():
    values = RNG.normal(0, 1, 400)
    found = estimate([str(n) for n in range(400)], BootstrapConfig(), mean, values)
    assert width(found) == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_all_nodules_of_a_patient_are_drawn_together():
    patients = ["b", "a", "b", "c", "a", "b", "d", "e"]
    for draw in Resamples(patients, BootstrapConfig(resamples=50)).draws:
        counts = np.bincount(draw, minlength=8)
        assert counts[0] == counts[2] == counts[5]
        assert counts[1] == counts[4]
        assert counts[[0, 1, 3, 6, 7]].sum() == 5


def test_nodules_of_one_patient_that_are_alike_widen_the_interval():
    values = np.repeat(RNG.normal(0, 1, 100), 4)
    config = BootstrapConfig(resamples=500)
    apart = estimate([str(n) for n in range(400)], config, mean, values)
    grouped = estimate([str(n // 4) for n in range(400)], config, mean, values)
    assert width(grouped) > 1.6 * width(apart)


def test_seed_resamples_and_confidence_are_used():
    values, patients = RNG.normal(0, 1, 30), [str(n) for n in range(30)]

    def found(**changes: float) -> Estimate:
        config = BootstrapConfig(**{"resamples": 100, **changes})
        return estimate(patients, config, mean, values)

    assert_alike(found(), found())
    assert found(seed=1) != found()
    assert found(resamples=101) != found()
    assert width(found(confidence=0.5)) < width(found())


def test_too_few_patients_give_a_value_without_interval():
    found = estimate(["a", "b", "c", "d"], BootstrapConfig(), mean, np.arange(4.0))
    assert found == Estimate(1.5)


def test_no_nodules_give_no_value():
    assert estimate([], BootstrapConfig(), mean, np.zeros(0)) == Estimate(None)


def test_figure_that_is_undefined_in_many_resamples_has_no_interval():
    truth = np.array([0, 0, 0, 0, 0, 1.0])
    found = estimate(list("abcdef"), BootstrapConfig(resamples=200), auc, truth)
    assert found == Estimate(1.0)


def test_undefined_figure_is_none():
    found = estimate(
        list("abcdef"), BootstrapConfig(resamples=10), auc, np.zeros(6), np.arange(6.0)
    )
    assert found == Estimate(None)


def test_paired_difference_is_narrower_than_the_figures_it_compares():
    truth = RNG.integers(0, 2, 200).astype(float)
    one = truth + RNG.normal(0, 1, 200)
    other = one + RNG.normal(0, 0.1, 200)
    resamples = Resamples([str(n) for n in range(200)], BootstrapConfig(resamples=300))
    ours, theirs = (resamples.replicate(auc, truth, answer) for answer in (one, other))
    difference = (ours - theirs).estimate(0.95)
    assert difference.value == pytest.approx(auc(truth, one) - auc(truth, other))
    assert width(difference) < 0.5 * width(ours.estimate(0.95))


def test_arrays_of_other_nodules_are_refused():
    with pytest.raises(InputError, match="2 nodules; got 3"):
        Resamples(["a", "b"], BootstrapConfig()).replicate(mean, np.zeros(3), np.zeros(3))
