"""Measures whether the model is uncertain where it is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from resmtnet.evaluation.metric import with_draws
from resmtnet.evaluation.metrics import auc, checked_pair
from resmtnet.types import Array

DROPPED = 0.2
"""Share of the most uncertain nodules that accuracy_gain leaves out."""


def with_entropy(probability: ArrayLike) -> Array:
    """Return probabilities [N] beside their entropy in nats, [N, 2].

    >>> with_entropy([0.5, 1.0]).round(3).tolist()
    [[0.5, 0.693], [1.0, 0.0]]
    """
    p = np.asarray(probability, np.float64)
    return np.column_stack([p, entr(p) + entr(1 - p)])


def _error_detection_of_draws(malignant: ArrayLike, answer: ArrayLike, counts: Array) -> Array:
    wrong, uncertainty = _errors(malignant, answer)
    return auc.of_draws(wrong, uncertainty, counts)


@with_draws(_error_detection_of_draws)
def error_detection_auc(malignant: ArrayLike, answer: ArrayLike) -> float:
    """Return the AUC of the uncertainty as a sign that the class at 0.5 is wrong.

    Args:
        malignant: [N] 0 or 1.
        answer: [N, 2] probability and uncertainty.

    Returns:
        0..1, 0.5 is chance; NaN where all answers are right, or all wrong.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> error_detection_auc([0, 0, 1, 1], [[0.1, 0.1], [0.6, 0.9], [0.7, 0.5], [0.9, 0.2]])
    1.0
    """
    return auc(*_errors(malignant, answer))


def accuracy_gain(malignant: ArrayLike, answer: ArrayLike) -> float:
    """Return how much the accuracy rises when the most uncertain DROPPED of the nodules go.

    Args:
        malignant: [N] 0 or 1.
        answer: [N, 2] probability and uncertainty.

    Raises:
        InputError: shapes differ, or N is 0.

    >>> answer = [[0.1, 0.1], [0.6, 0.9], [0.7, 0.5], [0.9, 0.2], [0.8, 0.3]]
    >>> round(accuracy_gain([0, 0, 1, 1, 1], answer), 3)
    0.2
    """
    wrong, uncertainty = _errors(malignant, answer)
    kept = len(wrong) - int(np.floor(DROPPED * len(wrong)))
    order = np.argsort(uncertainty, kind="stable")
    return float(np.mean(wrong) - np.mean(wrong[order[:kept]]))


def risk_coverage(malignant: ArrayLike, answer: ArrayLike) -> Array:
    """Return the error rate among the most certain nodules, for every number of them.

    Args:
        malignant: [N] 0 or 1.
        answer: [N, 2] probability and uncertainty.

    Returns:
        [N, 2]: share of the nodules kept, ascending, and share of these that is wrong.

    Raises:
        InputError: shapes differ, or N is 0.

    References:
        El-Yaniv and Wiener, J Mach Learn Res 11:1605 (2010).

    >>> risk_coverage([0, 1], [[0.2, 0.1], [0.3, 0.2]]).tolist()
    [[0.5, 0.0], [1.0, 0.5]]
    """
    wrong, uncertainty = _errors(malignant, answer)
    order = np.argsort(uncertainty, kind="stable")
    kept = np.arange(1, len(wrong) + 1)
    return np.column_stack([kept / len(wrong), np.cumsum(wrong[order]) / kept])


def _errors(malignant: ArrayLike, answer: ArrayLike) -> tuple[Array, Array]:
    probability, uncertainty = np.asarray(answer, np.float64).reshape(-1, 2).T
    y, p = checked_pair(malignant, probability)
    return np.asarray((p >= 0.5) != (y == 1), np.float64), uncertainty
