"""What turns raw outputs into calibrated answers; fitted on patients kept out of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.network.uncertainty import conformal_quantile, mahalanobis, sigmoid

Array = NDArray[np.float64]

DECIDED_ACCURACY = 0.9
"""Share of right answers asked of the nodules that are called benign or malignant."""
OOD_QUANTILE = 0.99
"""Share of calibration nodules that count as within the distribution."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Fitted constants of one model."""

    class_slope: float
    """Platt scaling: P(malignant) = sigmoid(slope * margin + intercept), margin = difference of the
    logits of malignant and benign."""
    class_intercept: float
    decision_threshold: float
    """Least probability at which a class is named; below it the name is indeterminate."""
    mask_threshold: float
    """Probability from which a voxel belongs to the mask; removes the median bias of diameters."""
    score_quantile: float
    """Half width of the score's 90% interval, in standard deviations of its distribution."""
    size_quantiles: Mapping[str, float]
    """Half width of each measured size's 90% interval of the log, in predicted sigmas."""
    regressed_quantiles: Mapping[str, float]
    """The same for the sizes that the network regresses."""
    ood_limit: float
    """Mahalanobis distance of embeddings that OOD_QUANTILE of the calibration nodules keep."""
    baselines: Mapping[str, Any]
    """Size-only and constant predictors fitted on the training nodules, for evaluation."""
    embedding_mean: Array = field(default_factory=lambda: np.zeros(0))
    """[D], of the training nodules."""
    embedding_precision: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[D, D], inverse of their shrunk covariance."""

    def probability_malignant(self, logits: Array) -> Array:
        """Return the calibrated probability of class logits [..., 2] (benign, malignant)."""
        margin = logits[..., 1] - logits[..., 0]
        return sigmoid(self.class_slope * margin + self.class_intercept)

    def out_of_distribution(self, embedding: Array) -> float:
        """Return the distance of an embedding [D] as a share of the accepted one."""
        distance = mahalanobis(embedding, self.embedding_mean, self.embedding_precision)
        return float(distance) / self.ood_limit

    def to_json(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return the plain values and the arrays, for calibration.json and safetensors."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays = {
            name: np.asarray(values.pop(name), np.float32)
            for name in ("embedding_mean", "embedding_precision")
        }
        return values, arrays

    @classmethod
    def from_json(cls, values: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> Calibration:
        """Read what to_json gave."""
        found: dict[str, Any] = {k: v.to(torch.float64).numpy() for k, v in arrays.items()}
        return cls(**values, **found)


def fit_platt(margins: Array, malignant: Array) -> tuple[float, float]:
    """Fit slope and intercept of the class by maximum likelihood.

    Args:
        margins: [N] logit malignant less logit benign.
        malignant: [N] 0 or 1.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6).fit(margins[:, None], malignant)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


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


def fit_embedding_spread(embeddings: Array) -> tuple[Array, Array]:
    """Return mean and precision of training embeddings [N, D] (Ledoit-Wolf shrinkage)."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(embeddings)
    return np.asarray(fitted.location_), np.asarray(fitted.precision_)


def fit_size_quantile(measured: Array, truth: Array, sigma: Array) -> float:
    """Return the conformal half width of log sizes in predicted sigmas.

    Args:
        measured: [N] mm.
        truth: [N] mm.
        sigma: [N] predicted standard deviation of the log size.
    """
    return conformal_quantile(np.abs(np.log(measured / truth)) / sigma)
