"""Expected information of a reading of each nodule; needs no label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resmtnet.active.scores import expected_information
from resmtnet.active.selection import diverse
from resmtnet.types import Array

QUANTITIES = 3
"""Score, log size and texture: regressed over the features, beside the class."""
PRIOR_GAIN = 2.0
"""Prior variance of a weight over the noise of a label, for features of mean squared length 1: what
the evidence of 200 to 500 labelled nodules finds for score and texture (1 to 2; size 3 to 5)."""
REACH = 0.5
"""Distance of features below which two nodules give much the same information."""

SMALL_MM = (6.0, 10.0)
"""Equivalent diameter of nodules in which a wrong score matters most ..."""
MAY_BE_MALIGNANT = 0.25
"""... where they may be malignant, from this probability on ..."""
SMALL_WEIGHT = 3.0
"""... and how much more a reading of them counts: information alone asks for too few of them."""


def weight_of_small(diameter_mm: Array, probability_malignant: Array) -> Array:
    """Return the weight of a reading: small nodules that may be malignant count more.

    Args:
        diameter_mm: [N] predicted; NaN counts as not small.
        probability_malignant: [N].

    Returns:
        [N].

    >>> weight_of_small(np.array([8.0, 8.0, 20.0]), np.array([0.5, 0.1, 0.5])).tolist()
    [3.0, 1.0, 1.0]
    """
    low, high = SMALL_MM
    mm = np.nan_to_num(np.asarray(diameter_mm, float), nan=0.0)
    counts = (mm >= low) & (mm < high) & (np.asarray(probability_malignant) >= MAY_BE_MALIGNANT)
    return np.where(counts, SMALL_WEIGHT, 1.0)


def information(features: Array, known: Array, probability_malignant: Array) -> Array:
    """Return the information that a reading gives about score, size, texture and class together.

    From Bayesian linear regression: the variance of a prediction, in units of a label's noise,
    depends on the features of the known nodules, not on their labels. A reading of the class gives
    most where the class is undecided, and nothing where it is certain.

    Args:
        features: [N, K] of mean squared length about 1.
        known: [L, K] of nodules that were read; may be empty.
        probability_malignant: [N].

    Returns:
        [N] nats.

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> int(information(x, np.array([[2.0], [2.0]]), np.ones(3)).argmax())
    0
    """
    centre = known.mean(0) if len(known) else np.zeros(features.shape[1])
    x, read = features - centre, known - centre
    precision = np.eye(features.shape[1]) / PRIOR_GAIN + read.T @ read
    slopes = (x * np.linalg.solve(precision, x.T).T).sum(1)
    variance = np.maximum(slopes, 0) + 1 / max(len(known), 1)
    p = np.asarray(probability_malignant, float)
    noise = np.ones((len(x), QUANTITIES + 1))
    noise[:, -1] = 1 / np.maximum(4 * p * (1 - p), 1e-6)
    return expected_information(np.repeat(variance[:, None], QUANTITIES + 1, 1), noise)


def informative(
    worth: Array, features: Array, known: Array, groups: Sequence[object], count: int
) -> NDArray[np.intp]:
    """Return the most informative nodules, unlike those known or chosen, of several patients.

    Args:
        worth: [N] information, or information times other weights.
        features: [N, K].
        known: [L, K].
        groups: [N] patient of each.
        count: greatest number to return.
    """
    return diverse(worth, features, known, groups, count, reach=REACH)
