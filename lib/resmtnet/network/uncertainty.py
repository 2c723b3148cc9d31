"""Entropy and disagreement of an ensemble's predictions, as pure functions."""

from __future__ import annotations

import numpy as np

from resmtnet.types import Array


def softmax(logits: Array) -> Array:
    """Softmax over the last axis.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def sigmoid(logit: Array | float) -> Array:
    """Logistic function."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logit, float))))


def logit(probability: Array | float) -> Array:
    """Inverse of the logistic function, for probabilities kept within 1e-6 of 0 and 1.

    >>> round(float(logit(0.5)), 3), round(float(logit(1.0)), 2)
    (0.0, 13.82)
    """
    p = np.clip(np.asarray(probability, float), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def entropy(probabilities: Array) -> Array:
    """Entropy over the last axis, nats.

    >>> round(float(entropy(np.array([0.5, 0.5]))), 3)
    0.693
    """
    return np.asarray(-(probabilities * np.log(np.clip(probabilities, 1e-12, 1))).sum(-1))


def mutual_information(member_probabilities: Array) -> float:
    """Disagreement of members [M, levels], nats: entropy of their mean less their mean entropy.

    >>> round(mutual_information(np.array([[1.0, 0.0], [0.0, 1.0]])), 3)
    0.693
    """
    mean = member_probabilities.mean(0)
    return max(0.0, float(entropy(mean) - entropy(member_probabilities).mean()))


def mahalanobis(embedding: Array, mean: Array, precision: Array) -> Array:
    """Distance of embeddings [..., D] from a normal distribution, divided by sqrt(D).

    Args:
        embedding: [..., D].
        mean: [D].
        precision: [D, D], inverse of the covariance.

    >>> round(float(mahalanobis(np.array([3.0, 4.0]), np.zeros(2), np.eye(2))), 3)
    3.536
    """
    gap = embedding - mean
    squared = np.einsum("...i,ij,...j->...", gap, precision, gap)
    return np.asarray(np.sqrt(np.maximum(squared, 0) / len(mean)))


def conformal_quantile(scores: Array, coverage: float = 0.9) -> float:
    """Quantile of calibration scores that covers a new one with at least the given probability.

    The finite-sample rank of Vovk et al., "Algorithmic Learning in a Random World" (2005). Fewer
    scores than that rank cannot promise the coverage: at 90% this needs nine of them.

    Returns:
        One of the scores, or infinity where they are too few.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.ones(8), 0.9)
    (9.0, inf)
    """
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")
