"""Metrics such as AUC, kappa and bias, as pure functions of arrays [N]: truth, prediction.

Each raises InputError where the shapes differ or nothing is given, and returns NaN where it is
undefined on what was given (an AUC of one class); bootstrap.py turns that into None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from resmtnet.errors import InputError
from resmtnet.evaluation.metric import mean_of, with_draws
from resmtnet.types import Array

Integers = NDArray[np.intp]


def _auc_of_draws(malignant: ArrayLike, probability: ArrayLike, counts: Array) -> Array:
    """AUC of each draw: nodules of one level of probability are summed, then the levels."""
    y, p = checked_pair(malignant, probability)
    order = np.argsort(p, kind="stable")
    levels = np.flatnonzero(np.diff(p[order], prepend=p[order[0]] - 1))
    positive = np.add.reduceat(counts[:, order] * y[order], levels, axis=1)
    negative = np.add.reduceat(counts[:, order] * (1 - y[order]), levels, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((positive * below).sum(1) / pairs, np.float64)


@with_draws(_auc_of_draws)
def auc(malignant: ArrayLike, probability: ArrayLike) -> float:
    r"""Return the area under the ROC curve: P(p_malignant > p_benign) + P(equal) / 2.

    .. math:: (\sum_{malignant} rank - n_1 (n_1 + 1) / 2) / (n_1 n_0)

    Args:
        malignant: [N] 0 or 1.
        probability: [N], any increasing measure.

    Returns:
        0..1; NaN if one class is missing.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, p = checked_pair(malignant, probability)
    positive = int(y.sum())
    negative = len(y) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(p)
    area = ranks[y == 1].sum() - positive * (positive + 1) / 2
    return float(area / (positive * negative))


@mean_of
def accuracy(malignant: ArrayLike, probability: ArrayLike) -> Array:
    """Return the share of nodules on the right side of 0.5 (0.5 itself is malignant).

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> accuracy([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.8])
    0.75
    """
    y, p = checked_pair(malignant, probability)
    return np.asarray((p >= 0.5) == (y == 1), np.float64)


def balanced_accuracy(truth: ArrayLike, answer: ArrayLike) -> float:
    """Return the mean over the classes present of the share of each that is answered rightly.

    Args:
        truth: [N] class numbers.
        answer: [N] class numbers.

    Returns:
        0..1; NaN if only one class is present.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    y, a = checked_pair(truth, answer)
    classes = np.unique(y)
    if len(classes) < 2:
        return float("nan")
    return float(np.mean([np.mean(a[y == c] == c) for c in classes]))


@mean_of
def brier(malignant: ArrayLike, probability: ArrayLike) -> Array:
    """Return the mean squared difference of probability and class.

    Args:
        malignant: [N] 0 or 1.
        probability: [N] 0..1.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> round(brier([0, 1], [0.2, 0.6]), 3)
    0.1
    """
    y, p = checked_pair(malignant, probability)
    return np.asarray((p - y) ** 2, np.float64)


@mean_of
def mean_absolute_error(truth: ArrayLike, answer: ArrayLike) -> Array:
    """Return the mean of |answer - truth|, in their unit.

    Args:
        truth: [N].
        answer: [N].

    Raises:
        InputError: shapes differ, or N is 0.

    >>> mean_absolute_error([1, 2], [2, 4])
    1.5
    """
    t, a = checked_pair(truth, answer)
    return np.asarray(np.abs(a - t), np.float64)


@mean_of
def bias(truth: ArrayLike, answer: ArrayLike) -> Array:
    """Return the mean of answer - truth; positive is too large.

    Args:
        truth: [N].
        answer: [N].

    Raises:
        InputError: shapes differ, or N is 0.

    >>> bias([1, 2], [2, 1.5])
    0.25
    """
    t, a = checked_pair(truth, answer)
    return np.asarray(a - t, np.float64)


def lower_limit_of_agreement(truth: ArrayLike, answer: ArrayLike) -> float:
    """Return bias - 1.96 SD of answer - truth (Bland-Altman).

    Args:
        truth: [N].
        answer: [N].

    Returns:
        The limit; NaN if N is 1.

    Raises:
        InputError: shapes differ, or N is 0.

    References:
        Bland and Altman, Lancet 327:307 (1986).

    >>> round(lower_limit_of_agreement([0, 0], [-1, 1]), 2)
    -2.77
    """
    return _limit_of_agreement(truth, answer, -1.96)


def upper_limit_of_agreement(truth: ArrayLike, answer: ArrayLike) -> float:
    """Return bias + 1.96 SD of answer - truth; see lower_limit_of_agreement.

    >>> round(upper_limit_of_agreement([0, 0], [-1, 1]), 2)
    2.77
    """
    return _limit_of_agreement(truth, answer, 1.96)


def median_relative_error(truth: ArrayLike, answer: ArrayLike) -> float:
    """Return the median of |answer - truth| / truth.

    Args:
        truth: [N], positive.
        answer: [N].

    Raises:
        InputError: shapes differ, or N is 0.

    >>> median_relative_error([10, 100, 10], [11, 150, 10])
    0.1
    """
    t, a = checked_pair(truth, answer)
    return float(np.median(np.abs(a - t) / t))


def weighted_kappa(truth: ArrayLike, answer: ArrayLike, levels: int = 5) -> float:
    r"""Return Cohen's kappa with linear weights of scores rounded to ratings 1..levels.

    .. math:: 1 - \sum_{ij} |i - j| O_{ij} / \sum_{ij} |i - j| E_{ij}

    Args:
        truth: [N]; a half is rounded up.
        answer: [N]; a half is rounded up.
        levels: number of ratings.

    Returns:
        At most 1, 0 is chance; NaN if both are constant and equal.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> round(weighted_kappa([1, 2, 3, 4, 5], [1, 2, 3, 5, 5]), 3)
    0.884
    """
    t, a = (
        np.clip(np.floor(v + 0.5), 1, levels).astype(np.intp) - 1
        for v in checked_pair(truth, answer)
    )
    weights = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels)))
    return _kappa(t, a, weights)


def kappa(truth: ArrayLike, answer: ArrayLike) -> float:
    r"""Return Cohen's kappa of class numbers, every disagreement alike.

    .. math:: 1 - \sum_{i \ne j} O_{ij} / \sum_{i \ne j} E_{ij}

    Args:
        truth: [N] whole numbers from 0.
        answer: [N] whole numbers from 0.

    Returns:
        At most 1, 0 is chance; NaN if both are constant and equal.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> round(kappa([0, 0, 1, 1], [0, 1, 1, 1]), 3)
    0.5
    """
    t, a = checked_pair(truth, answer)
    levels = int(max(t.max(), a.max())) + 1
    return _kappa(t.astype(np.intp), a.astype(np.intp), 1 - np.eye(levels))


def _kappa(truth: Integers, answer: Integers, weights: NDArray[Any]) -> float:
    """Kappa from level numbers and the weight [L, L] of each disagreement."""
    count = len(weights)
    cells = np.bincount(truth * count + answer, minlength=count**2)
    table = cells.reshape(count, count) / len(truth)
    chance = float((weights * np.outer(table.sum(1), table.sum(0))).sum())
    return 1 - float((weights * table).sum()) / chance if chance else float("nan")


@mean_of
def coverage(truth: ArrayLike, interval: ArrayLike) -> Array:
    """Return the share of truths that lie within their interval, ends included.

    Args:
        truth: [N].
        interval: [N, 2] low, high.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> coverage([1, 2, 3, 4], [[0, 2], [3, 4], [3, 5], [0, 9]])
    0.75
    """
    t, bounds = np.asarray(truth, np.float64), np.asarray(interval, np.float64)
    if t.ndim != 1 or bounds.shape != (len(t), 2) or not len(t):
        raise InputError(
            f"coverage needs truths [N] and intervals [N, 2], N > 0; got {t.shape} "
            f"and {bounds.shape}"
        )
    return np.asarray((bounds[:, 0] <= t) & (t <= bounds[:, 1]), np.float64)


def checked_pair(truth: ArrayLike, answer: ArrayLike) -> tuple[Array, Array]:
    """Return two arrays [N] as float64.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> checked_pair([1], [2])
    (array([1.]), array([2.]))
    """
    t, a = np.asarray(truth, np.float64), np.asarray(answer, np.float64)
    if t.ndim != 1 or t.shape != a.shape or not len(t):
        raise InputError(
            f"a metric needs two arrays [N] of one length, N > 0; got {t.shape} and {a.shape}"
        )
    return t, a


def _limit_of_agreement(truth: ArrayLike, answer: ArrayLike, factor: float) -> float:
    t, a = checked_pair(truth, answer)
    if len(t) < 2:
        return float("nan")
    return float(np.mean(a - t) + factor * np.std(a - t, ddof=1))
