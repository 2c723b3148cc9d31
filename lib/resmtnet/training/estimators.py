"""Fits of the calibration constants: Platt scaling, thresholds, temperatures; pure functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from resmtnet.network.uncertainty import softmax
from resmtnet.types import Array

DECIDED_ACCURACY = 0.9
"""Share of right answers asked of the nodules that are called benign or malignant."""
RIDGE = 1.0
"""Inverse strength of the penalty on the slopes of features that agree."""
PRIOR = 0.1
"""Strength of the penalty on the offsets of classes."""


def fit_platt(
    features: Mapping[str, Array], malignant: Array, weight: Array
) -> tuple[dict[str, float], float]:
    """Fit slopes and intercept of the class (Platt scaling on one or more features).

    Correlated features would get large slopes of opposite sign, so a penalised fit sets their
    proportion, and an unpenalised one the slope of their sum.

    Args:
        features: [N] each, by name.
        malignant: [N] 0 or 1.
        weight: [N] of the nodules.

    Returns:
        Slope by feature, and the intercept.
    """
    from sklearn.linear_model import LogisticRegression

    columns = np.stack(list(features.values()), 1)
    spread = np.where(columns.std(0) > 0, columns.std(0), np.inf)  # a constant gets no slope
    scaled = (columns - columns.mean(0)) / spread
    mixed = LogisticRegression(C=RIDGE).fit(scaled, malignant, weight).coef_[0]
    slopes = mixed / spread
    total = columns @ slopes
    final = LogisticRegression(C=1e6).fit(total[:, None], malignant, weight)
    scale = float(final.coef_[0, 0])
    named = zip(features, slopes, strict=True)
    return {name: float(scale * slope) for name, slope in named}, float(final.intercept_[0])


def fit_decision_threshold(probability: Array, malignant: Array) -> float:
    """Return the least probability at which the named classes are right often enough.

    Args:
        probability: [N] of malignant.
        malignant: [N] 0 or 1.
    """
    confidence = np.maximum(probability, 1 - probability)
    right = (probability >= 0.5) == (malignant == 1)
    for threshold in np.arange(0.5, 0.81, 0.01):
        decided = confidence >= threshold
        if decided.any() and right[decided].mean() >= DECIDED_ACCURACY:
            return round(float(threshold), 2)
    return 0.8


def fit_temperature(logits: Array, counts: Array) -> float:
    """Return the temperature of greatest likelihood of the readers' ratings.

    Args:
        logits: [N, levels].
        counts: [N, levels] readers at each level.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return _entropy(softmax(logits / np.exp(log_temperature)), counts)

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    return float(np.exp(found.x))


def fit_vector_scaling(logits: Array, target: NDArray[np.int64]) -> tuple[float, tuple[float, ...]]:
    """Fit one temperature and an offset per class by likelihood (Guo et al., ICML 2017).

    Args:
        logits: [N, classes].
        target: [N] index of the class.

    Returns:
        Temperature, and offsets that sum to 0.
    """
    from scipy.optimize import minimize

    classes = logits.shape[1]
    counts = np.eye(classes)[target]

    def loss(values: Array) -> float:
        shares = softmax(logits / np.exp(values[0]) + values[1:])
        return _entropy(shares, counts) + PRIOR * float(values @ values)

    found = minimize(loss, np.zeros(classes + 1), method="BFGS").x
    offsets = found[1:] - found[1:].mean()
    return float(np.exp(found[0])), tuple(float(offset) for offset in offsets)


def _entropy(shares: Array, counts: Array) -> float:
    return float(-(counts * np.log(np.clip(shares, 1e-12, 1))).sum())
