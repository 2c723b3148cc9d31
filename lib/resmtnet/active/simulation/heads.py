"""Linear heads over fixed embeddings, fitted on labelled nodules, with their uncertainty.

Score, log size and texture: ridge regression whose prior is chosen by evidence (MacKay, Bayesian
Interpolation, 1992). Class: logistic regression with a Gaussian prior and Laplace's posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from resmtnet.active.simulation.pool import Indices, Truth
from resmtnet.active.strata import strata
from resmtnet.errors import InputError
from resmtnet.types import Array

PRIOR_GAINS = tuple(float(g) for g in np.geomspace(0.1, 300.0, 17))
CLASS_PRIOR_GAIN = 1.0
"""Prior variance of a logistic weight; of 1 to 100 the best by AUC at 50 to 550 labels."""
_STEPS = 15


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear regression and the covariance of its weights."""

    centre: Array
    """[K] mean of the labelled features."""
    intercept: float
    """Mean of the labels."""
    weights: Array
    covariance: Array
    """[K, K] of the weights."""
    noise: float
    """Variance of a label of weight 1."""
    labels: float
    """Sum of the weights of the labels."""

    def mean(self, features: Array) -> Array:
        """Return the predicted mean [N]."""
        return np.asarray(self.intercept + (features - self.centre) @ self.weights)

    def variance(self, features: Array) -> Array:
        """Return the variance of that mean [N], without the noise of a label."""
        x = features - self.centre
        slope = np.maximum(((x @ self.covariance) * x).sum(1), 0)
        return np.asarray(slope + self.noise / self.labels)


def fit_ridge(features: Array, target: Array, weight: Array) -> Ridge:
    """Fit a ridge regression whose prior variance is chosen by evidence.

    Args:
        features: [N, K].
        target: [N].
        weight: [N], of a label; 0: no label.

    Raises:
        InputError: no label at all.

    >>> x = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> line = fit_ridge(x, 3 * x[:, 0] + 1, np.ones(4))
    >>> line.mean(np.array([[0.5]])).round(1).tolist()
    [2.5]
    """
    known = weight > 0
    if not known.any():
        raise InputError("no nodule has a label of this quantity; label more")
    t, w = target[known], weight[known]
    centre, intercept = w @ features[known] / w.sum(), float(w @ t / w.sum())
    x = features[known] - centre
    root = np.sqrt(w)
    left, singular, right = np.linalg.svd(x * root[:, None], full_matrices=False)
    squared = singular**2
    residual = (t - intercept) * root
    inside = left.T @ residual
    outside = max(float(residual @ residual - inside @ inside), 0.0)
    best: tuple[float, float, float] | None = None
    for gain in PRIOR_GAINS:
        shrunk = 1 + gain * squared
        noise = max(((inside**2 / shrunk).sum() + outside) / len(t), 1e-6)
        evidence = -0.5 * (np.log(shrunk).sum() + len(t) * np.log(noise))
        if best is None or evidence > best[0]:
            best = (float(evidence), gain, float(noise))
    assert best is not None  # for the type checker: PRIOR_GAINS is not empty
    _, gain, noise = best
    shrunk = 1 + gain * squared
    weights = gain * right.T @ (singular * inside / shrunk)
    covariance = noise * gain * (np.eye(x.shape[1]) - (right.T * (gain * squared / shrunk)) @ right)
    return Ridge(centre, intercept, weights, covariance, noise, float(w.sum()))


@dataclass(frozen=True, eq=False)
class Logistic:
    """A logistic regression and the covariance of its weights, the intercept's last."""

    weights: Array
    covariance: Array

    def logit(self, features: Array) -> Array:
        """Return the logit [N]."""
        return np.asarray(_with_one(features) @ self.weights)

    def variance(self, features: Array) -> Array:
        """Return the variance of the logit [N]."""
        x = _with_one(features)
        return np.asarray(np.maximum(((x @ self.covariance) * x).sum(1), 0))


def fit_logistic(features: Array, target: Array, weight: Array) -> Logistic:
    """Fit a probability by Newton's method; targets may be shares.

    Args:
        features: [N, K].
        target: [N] 0..1.
        weight: [N].

    >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> fitted = fit_logistic(x, np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4))
    >>> bool(fitted.logit(np.array([[1.5]]))[0] > 1)
    True
    """
    x = _with_one(features)
    prior = np.full(x.shape[1], 1 / CLASS_PRIOR_GAIN)
    prior[-1] = 1e-2
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = expit(x @ weights)
        gradient = x.T @ (weight * (p - target)) + prior * weights
        hessian = (x.T * (weight * p * (1 - p))) @ x + np.diag(prior)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-5:
            break
    return Logistic(weights, np.linalg.inv(hessian))


@dataclass(frozen=True, eq=False)
class SimulatedHeads:
    """The heads after training on the nodules labelled so far."""

    score: Ridge
    log_mm: Ridge
    texture: Ridge
    malignant: Logistic

    def probabilities(self, features: Array) -> Array:
        """Return the probabilities [N, 2] of benign and malignant."""
        return pair(self.malignant.logit(features))

    def strata(self, features: Array) -> Indices:
        """Return the number [N] of each one's stratum: size band x texture, both predicted."""
        return strata(np.exp(self.log_mm.mean(features)), self.texture.mean(features))


def fit_heads(features: Array, truth: Truth, labelled: Indices) -> SimulatedHeads:
    """Fit all heads on the labelled nodules.

    Args:
        features: [N, K] of all nodules that may be labelled.
        truth: of all of them; only that of the labelled ones is read.
        labelled: indices.

    Raises:
        InputError: none of the labelled nodules has a label of one of the quantities.
    """
    x = features[labelled]

    def ridge(name: str) -> Ridge:
        target, weight = getattr(truth, name), getattr(truth, f"{name}_weight")
        return fit_ridge(x, target[labelled], weight[labelled])

    malignant = fit_logistic(x, truth.malignant[labelled], truth.malignant_weight[labelled])
    return SimulatedHeads(ridge("score"), ridge("log_mm"), ridge("texture"), malignant)


def pair(logit: Array) -> Array:
    """Return the probabilities [N, 2] of benign and malignant.

    >>> pair(np.array([0.0])).tolist()
    [[0.5, 0.5]]
    """
    p = expit(logit)
    return np.stack([1 - p, p], -1)


def _with_one(features: Array) -> Array:
    return np.column_stack([features, np.ones(len(features))])
