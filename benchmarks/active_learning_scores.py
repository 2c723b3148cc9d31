"""Scores and choices of the strategies that were compared with those of the app.

Pure functions of small arrays; benchmarks/active_learning_strategies.py plays with them.
Settles, Active Learning Literature Survey (2009); the paper of each method stands with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from resmtnet.errors import InputError
from resmtnet.network.uncertainty import entropy
from resmtnet.types import Array

Indices = NDArray[np.intp]


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


def ranks(scores: Array) -> Array:
    """Rank of each score as a share, so that scores of different units can be mixed.

    Args:
        scores: [N].

    Returns:
        [N], 0 (the least) to 1 (the most); equal scores have their mean rank.

    >>> ranks(np.array([10.0, 30.0, 20.0])).tolist()
    [0.0, 1.0, 0.5]
    """
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


def tilted(
    strata: Sequence[int],
    known: Sequence[int],
    count: int,
    generator: np.random.Generator,
    tilt: float = 0.0,
    worth: Array | None = None,
) -> Indices:
    """Stratified random in which rare strata have more than their share.

    A stratum that holds the share p of all nodules is to have a share of the labels in
    proportion to p^tilt (power allocation: Bankier, Power Allocations, The American Statistician
    42, 1988); what is known already counts.

    Args:
        strata: [N] number of each one's stratum.
        known: [L] strata of those that have a label.
        count: at most so many.
        generator: decides who stands for a stratum, and about fractions.
        tilt: 1: every stratum in proportion; 0: the same number of each.
        worth: [N] above 0, in proportion to which a nodule of a stratum is drawn; None: all alike.

    Raises:
        InputError: tilt is not within 0..1, or a worth is not above 0.

    >>> strata = [0] * 6 + [1] * 3
    >>> sorted(strata[n] for n in tilted(strata, [], 4, np.random.default_rng(0)))
    [0, 0, 1, 1]
    >>> sorted(strata[n] for n in tilted(strata, [1, 1], 2, np.random.default_rng(0)))
    [0, 0]
    """
    if not 0 <= tilt <= 1:
        raise InputError(f"tilt is {tilt}; 0 to 1 are allowed")
    groups, given = np.asarray(strata, np.intp), np.asarray(known, np.intp)
    count = min(count, len(groups))
    if not count:
        return np.zeros(0, np.intp)
    levels = int(max(groups.max(), given.max(initial=0))) + 1
    free, labelled = np.bincount(groups, minlength=levels), np.bincount(given, minlength=levels)
    allotted = _allotted(free, labelled, count, tilt)
    places = np.cumsum(allotted)  # systematic sampling: each number differs by less than one
    ends = np.floor(places * (1 - 1e-12) + generator.random()).astype(np.intp)
    ends[-1] = count
    numbers = np.diff(np.minimum(ends, count), prepend=0)
    order = _by_chance(len(groups), worth, generator)
    chosen = [order[groups[order] == g][:n] for g, n in enumerate(numbers.tolist()) if n > 0]
    found = np.concatenate(chosen)
    rest = order[~np.isin(order, found)]  # where rounding asked a stratum for more than it has
    return np.concatenate([found, rest[: count - len(found)]])


def _by_chance(number: int, worth: Array | None, generator: np.random.Generator) -> Indices:
    """Return all in an order of chance in which each next one is drawn in proportion to worth."""
    value = np.ones(number) if worth is None else np.asarray(worth, float)
    if value.shape != (number,) or not (value > 0).all():
        raise InputError(f"worth has shape {value.shape}; {number} values above 0 are needed")
    return np.argsort(generator.exponential(size=number) / value)


def _allotted(free: NDArray[np.intp], labelled: NDArray[np.intp], count: int, tilt: float) -> Array:
    """Return how many of each stratum, in fractions: at most those free, in all `count`.

    Strata that have more than their due already get nothing; the others share what is left.
    """
    share = np.where(free + labelled > 0, (free + labelled).astype(float) ** tilt, 0.0)
    low, high = 0.0, float(free.sum() + labelled.sum() + count) / share[share > 0].min()
    for _ in range(60):  # the level to which all are filled, by bisection
        level = (low + high) / 2
        filled = np.clip(level * share - labelled, 0, free).sum()
        low, high = (level, high) if filled < count else (low, level)
    return np.asarray(np.clip(high * share - labelled, 0, free))


def k_means_plus_plus(points: Array, count: int, generator: np.random.Generator) -> Indices:
    """Points far from one another by chance: each next with probability as squared distance.

    Arthur and Vassilvitskii, k-means++ (2007), as BADGE uses it on gradient embeddings: the
    first is the longest, so that what is uncertain and what is different are both preferred.

    Args:
        points: [N, D].
        count: at most so many.
        generator: draws.

    >>> corners = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 8.0]])
    >>> sorted(k_means_plus_plus(corners, 2, np.random.default_rng(0)).tolist()) in ([0, 1], [1, 3])
    True
    """
    x = np.asarray(points, float)
    count = min(count, len(x))
    if not count:
        return np.zeros(0, np.intp)
    chosen = [int((x**2).sum(1).argmax())]
    free = np.ones(len(x), bool)
    distance = np.full(len(x), np.inf)
    while len(chosen) < count:
        free[chosen[-1]] = False
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(1))
        weight = np.where(free, distance, 0.0)
        total = weight.sum()
        share = weight / total if total > 0 else free / free.sum()
        chosen.append(int(generator.choice(len(x), p=share)))
    return np.array(chosen, np.intp)


def _probabilities(values: Array, dims: int) -> Array:
    p = np.asarray(values, float)
    if p.ndim != dims or not np.allclose(p.sum(-1), 1, atol=1e-3) or p.min(initial=0) < 0:
        raise InputError(
            f"probabilities of shape {p.shape}; {dims} axes are needed, and the last sums to 1"
        )
    return p


def typicality(features: Array, neighbours: int = 20) -> Array:
    """One over the mean distance to the nearest others: high amid many alike.

    Hacohen et al., Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets
    (ICML 2022).

    Args:
        features: [N, K] of all nodules that may be labelled.
        neighbours: how many of the others count.
    """
    squares = (features**2).sum(1)
    apart = np.maximum(squares[:, None] + squares[None] - 2 * features @ features.T, 0)
    nearest = np.sort(np.sqrt(apart), axis=1)[:, 1 : neighbours + 1]
    return np.asarray(1 / np.maximum(nearest.mean(1), 1e-6))


def variance_reducing(
    features: Array,
    free: NDArray[np.intp],
    labelled: NDArray[np.intp],
    weight: Array,
    groups: Sequence[object],
    count: int,
    prior_gain: float,
    group_factor: float = 0.5,
) -> NDArray[np.intp]:
    """Greedily choose what most reduces the expected squared error of all nodules, weighted.

    For Bayesian linear regression that error is its variance, which no label changes (Cohn,
    Ghahramani and Jordan, J Artif Intell Res 4, 1996). Nodules amid many alike reduce it most.

    Args:
        features: [N, K] of all nodules.
        free: indices of those that may be chosen.
        labelled: indices of those that have a label.
        weight: [N] how much the error of each counts.
        groups: [len(free)] patient of each that is free.
        count: greatest number to choose.
        prior_gain: prior variance of a weight over the noise of a label.
        group_factor: multiplies the worth of a patient's others for each one chosen of it.

    Returns:
        Places in `free`.
    """
    x, read = features[free], features[labelled]
    spread = np.linalg.inv(np.eye(x.shape[1]) / prior_gain + read.T @ read)
    target = (features * weight[:, None]).T @ features
    names = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    group = np.array([names[name] for name in groups], np.intp)
    factor = np.ones(len(names))
    chosen: list[int] = []
    for _ in range(min(count, len(x))):
        reached = x @ spread
        gain = ((reached @ target) * reached).sum(1) / (1 + (reached * x).sum(1)) * factor[group]
        gain[chosen] = -np.inf
        one = int(gain.argmax())
        chosen.append(one)
        factor[group[one]] *= group_factor
        step = spread @ x[one]
        spread = spread - np.outer(step, step) / (1 + x[one] @ step)
    return np.array(chosen, np.intp)
