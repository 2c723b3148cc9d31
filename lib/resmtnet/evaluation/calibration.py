"""Measures of calibration: how well predicted probabilities agree with observed shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from resmtnet.evaluation.metrics import checked_pair
from resmtnet.types import Array

BINS = 10
"""Equal-mass bins of the calibration errors; fewer where a bin would hold less than BIN_CASES."""
BIN_CASES = 5


def reliability_bins(malignant: ArrayLike, probability: ArrayLike) -> Array:
    """Return the reliability curve over equal-mass bins.

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1.

    Returns:
        [B, 3]: mean probability, share malignant and count of each bin, ascending. B is BINS, or
        N // BIN_CASES (at least 1) if that is less.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> probability = [i / 10 for i in range(10)]
    >>> reliability_bins([0, 0, 1, 0, 0, 1, 1, 1, 0, 1], probability).round(2).tolist()
    [[0.2, 0.2, 5.0], [0.7, 0.8, 5.0]]
    """
    y, p = checked_pair(malignant, probability)
    order = np.argsort(p, kind="stable")
    count = max(1, min(BINS, len(y) // BIN_CASES))
    sizes = np.full(count, len(y) // count)
    sizes[: len(y) % count] += 1
    sums = np.add.reduceat(np.column_stack([p, y])[order], np.cumsum(sizes) - sizes, axis=0)
    return np.column_stack([sums / sizes[:, None], sizes])


def calibration_error(malignant: ArrayLike, probability: ArrayLike) -> float:
    """Return the expected calibration error: mean |probability - share malignant| over bins.

    It is biased upwards on few nodules: a perfectly calibrated model has a positive one.

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> round(calibration_error([0, 0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5]), 3)
    0.1
    """
    bins = reliability_bins(malignant, probability)
    return float(np.average(np.abs(bins[:, 0] - bins[:, 1]), weights=bins[:, 2]))


def debiased_calibration_error(malignant: ArrayLike, probability: ArrayLike) -> float:
    r"""Return the root mean square calibration error less the share that chance alone gives.

    .. math:: \sqrt{\max(0, \sum_b w_b [(p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1)])}

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1.

    Raises:
        InputError: shapes differ, or N is 0.

    References:
        Kumar, Liang, Ma, Verified Uncertainty Calibration, NeurIPS 2019, definition 4.1.

    >>> debiased_calibration_error([0, 0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5])
    0.0
    """
    p, y, n = reliability_bins(malignant, probability).T
    chance = y * (1 - y) / np.maximum(n - 1, 1)
    return float(np.sqrt(max(0.0, np.average((p - y) ** 2 - chance, weights=n))))


def calibration_slope(malignant: ArrayLike, probability: ArrayLike) -> float:
    """Return the slope of the logistic regression of the class on logit p; 1 is ideal.

    Below 1 the probabilities are too extreme, above 1 too cautious.

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1, clipped to 1e-6 from its ends.

    Returns:
        The slope; NaN if one class is missing, p is constant or separates the classes.

    Raises:
        InputError: shapes differ, or N is 0.

    References:
        Van Calster et al., BMC Med 17:230 (2019).

    >>> round(calibration_slope([0, 1, 0, 0, 1, 1, 0, 1], [.1, .2, .3, .4, .6, .7, .8, .9]), 3)
    0.596
    """
    y, p = checked_pair(malignant, probability)
    margin = _logit(p)
    if not _overlap(margin[y == 0], margin[y == 1]):
        return float("nan")
    return _logistic(y, np.column_stack([margin, np.ones_like(margin)]), np.zeros_like(margin))


def calibration_intercept(malignant: ArrayLike, probability: ArrayLike) -> float:
    """Return the calibration in the large: the intercept on logit p with a slope of 1; 0 is ideal.

    Below 0 the probabilities are too high on the whole.

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1, clipped to 1e-6 from its ends.

    Returns:
        The intercept; NaN if one class is missing.

    Raises:
        InputError: shapes differ, or N is 0.

    References:
        Van Calster et al., BMC Med 17:230 (2019).

    >>> round(calibration_intercept([0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]), 3)
    -1.099
    """
    y, p = checked_pair(malignant, probability)
    if y.min() == y.max():
        return float("nan")
    return _logistic(y, np.ones((len(y), 1)), _logit(p))


def _logit(probability: Array) -> Array:
    return np.asarray(logit(np.clip(probability, 1e-6, 1 - 1e-6)), np.float64)


def _overlap(benign: Array, malignant: Array) -> bool:
    """Whether the classes' ranges overlap: only then does a logistic regression have a maximum."""
    if not len(benign) or not len(malignant):
        return False
    return bool(malignant.min() < benign.max() and benign.min() < malignant.max())


def _logistic(y: Array, columns: Array, offset: Array) -> float:
    """First coefficient of a logistic regression by Newton steps; NaN where they do not settle."""
    beta = np.zeros(columns.shape[1])
    for _ in range(50):
        p = expit(columns @ beta + offset)
        hessian = (columns * (p * (1 - p))[:, None]).T @ columns
        try:
            step = np.linalg.solve(hessian, columns.T @ (y - p))
        except np.linalg.LinAlgError:
            break
        beta = beta + np.clip(step, -4, 4)
        if np.abs(step).max() < 1e-8:
            return float(beta[0])
    return float("nan")
