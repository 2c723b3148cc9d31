"""How much a label of each nodule would teach: pure functions of predictions, larger is more.

Settles, Active Learning Literature Survey (2009); the papers of single scores stand with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resmtnet.errors import InputError
from resmtnet.network.uncertainty import entropy
from resmtnet.types import Array


def class_entropy(probabilities: Array) -> Array:
    """Entropy of each nodule's class.

    Args:
        probabilities: [N, K], each row sums to 1.

    Returns:
        [N] nats, 0 to log K.

    Raises:
        InputError: not [N, K], or not probabilities.

    >>> class_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    return entropy(_probabilities(probabilities, 2)) + 0.0


def disagreement(member_probabilities: Array) -> Array:
    """Mutual information of class and member: what the members know differently (BALD).

    Houlsby et al., Bayesian Active Learning for Classification and Preference Learning (2011).

    Args:
        member_probabilities: [M, N, K] of the members of an ensemble, or of draws of the weights.

    Returns:
        [N] nats, 0 where the members agree.

    Raises:
        InputError: not [M, N, K], or not probabilities.

    >>> one = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    >>> disagreement(one).round(3).tolist()
    [0.693, 0.0]
    """
    p = _probabilities(member_probabilities, 3)
    return np.asarray(np.maximum(entropy(p.mean(0)) - entropy(p).mean(0), 0.0))


def expected_information(epistemic: Array, aleatoric: Array) -> Array:
    """Information that one reading gives about several quantities together.

    Of a normal quantity with variance v about its mean, a reading with noise of variance s tells
    log(1 + v / s) / 2 nats (MacKay, Information-Based Objective Functions for Active Data
    Selection, 1992); quantities add up. What is only noise (a large s) tells nothing.

    Args:
        epistemic: [N, T] variance of the mean of each quantity, such as score, log size, logit.
        aleatoric: [N, T] or [T] variance of a reading about that mean; of a logit with
            probability p, 1 / (p (1 - p)).

    Returns:
        [N] nats.

    Raises:
        InputError: shapes differ, or a variance cannot be one.

    >>> expected_information(np.array([[3.0, 0.0], [1.0, 1.0]]), np.ones(2)).round(3).tolist()
    [0.693, 0.693]
    """
    v, s = np.asarray(epistemic, float), np.asarray(aleatoric, float)
    if v.ndim != 2 or s.shape not in (v.shape, v.shape[1:]):
        raise InputError(f"epistemic is {v.shape}, aleatoric {s.shape}; allowed: [N, T] and [T]")
    if not (v >= 0).all() or not (s > 0).all():
        raise InputError("a variance is negative, NaN, or 0 where it is of noise")
    return np.asarray(0.5 * np.log1p(v / s).sum(1))


def gradient_embeddings(features: Array, residuals: Array) -> Array:
    """Gradients of the last layers for the label that is expected (BADGE).

    Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds (2020): for
    cross entropy the gradient is (probability - label) x features, and its norm grows with the
    doubt. Of a regressed quantity the expected residual is its standard deviation.

    Args:
        features: [N, D] that enter the last layers.
        residuals: [N, T] expected size of the residual of each quantity, in a unit that makes
            them comparable.

    Returns:
        [N, T * D], one quantity after the other.

    Raises:
        InputError: shapes differ.

    >>> gradient_embeddings(np.array([[1.0, 2.0]]), np.array([[0.5, 3.0]])).tolist()
    [[0.5, 1.0, 3.0, 6.0]]
    """
    x, r = np.asarray(features, float), np.asarray(residuals, float)
    if x.ndim != 2 or r.ndim != 2 or len(x) != len(r):
        raise InputError(f"features are {x.shape}, residuals {r.shape}; allowed: [N, D], [N, T]")
    return np.asarray((r[:, :, None] * x[:, None, :]).reshape(len(x), -1))


def class_residuals(probabilities: Array) -> Array:
    """Residual that the predicted class leaves: the probability of all others.

    Args:
        probabilities: [N, K].

    Returns:
        [N], 0 to 1 - 1 / K.

    >>> class_residuals(np.array([[0.25, 0.75], [1.0, 0.0]])).tolist()
    [0.25, 0.0]
    """
    return np.asarray(1 - _probabilities(probabilities, 2).max(1))


def joint_doubt(
    class_residual: Array, score_width: Array, log_size_width: Array, texture_entropy: Array
) -> Array:
    """Doubt about class, score, size and texture together, from what an answer says of itself.

    Each part is a share of the greatest that it can sensibly be, and the four are averaged; a part
    that is not known (NaN) is left out.

    Args:
        class_residual: [N] probability of the less probable class, 0..0.5.
        score_width: [N] width of the 90% interval of the malignancy score, 0..4.
        log_size_width: [N] log(high / low) of the 90% interval of a size; log 4 counts as 1.
        texture_entropy: [N] nats over five levels.

    Returns:
        [N] 0..1.

    >>> one = [np.array([x]) for x in (0.5, 2.0, np.log(2.0), np.nan)]
    >>> joint_doubt(*one).round(3).tolist()
    [0.667]
    """
    greatest = (0.5, 4.0, np.log(4.0), np.log(5.0))
    given = (class_residual, score_width, log_size_width, texture_entropy)
    parts = np.stack(
        [
            np.clip(np.asarray(x, float) / most, 0, 1)
            for x, most in zip(given, greatest, strict=True)
        ]
    )
    known = np.isfinite(parts)
    return np.asarray(np.where(known, parts, 0).sum(0) / np.maximum(known.sum(0), 1))


def ranks(scores: Array) -> Array:
    """Rank of each score as a share, so that scores of different units can be mixed.

    Args:
        scores: [N].

    Returns:
        [N], 0 (the least) to 1 (the most); equal scores have their mean rank.

    >>> ranks(np.array([10.0, 30.0, 20.0])).tolist()
    [0.0, 1.0, 0.5]
    """
    from scipy.stats import rankdata

    if len(scores) < 2:
        return np.ones(len(scores))
    return np.asarray((rankdata(scores) - 1) / (len(scores) - 1))


def mixture(scores: Sequence[Array], weights: Sequence[float]) -> Array:
    """Weighted mean of the ranks of several scores.

    Args:
        scores: of each kind [N].
        weights: of each kind, not all 0.

    Returns:
        [N], 0..1.

    Raises:
        InputError: numbers of scores and weights differ, or no weight is above 0.

    >>> mixture([np.array([1.0, 2.0]), np.array([9.0, 0.0])], [3, 1]).tolist()
    [0.25, 0.75]
    """
    if len(scores) != len(weights) or not sum(weights) > 0 or min(weights) < 0:
        raise InputError(
            f"{len(scores)} scores with weights {list(weights)}; one weight for each, from 0 on, "
            "is needed, and one above 0"
        )
    parts = [w * ranks(s) for s, w in zip(scores, weights, strict=True)]
    return np.asarray(np.sum(parts, 0) / sum(weights))


def _probabilities(values: Array, dims: int) -> Array:
    p = np.asarray(values, float)
    if p.ndim != dims or not np.allclose(p.sum(-1), 1, atol=1e-3) or p.min(initial=0) < 0:
        raise InputError(
            f"probabilities of shape {p.shape}; {dims} axes are needed, and the last sums to 1"
        )
    return p
