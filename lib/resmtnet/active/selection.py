"""Pure functions that pick some of many nodules; random ones take a generator.

Every function returns indices into its input, each at most once, in the order of choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import InputError
from resmtnet.types import Array

Indices = NDArray[np.intp]


def best(scores: Array, count: int) -> Indices:
    """Return the highest scores first; among equal scores the first.

    Args:
        scores: [N].
        count: greatest number to return.

    >>> best(np.array([0.1, 0.9, 0.5]), 2).tolist()
    [1, 2]
    """
    return np.argsort(-np.asarray(scores, float), kind="stable")[: _count(count)]


def at_random(number: int, count: int, generator: np.random.Generator) -> Indices:
    """Return any of `number`, all equally likely.

    >>> sorted(at_random(3, 3, np.random.default_rng(0)).tolist())
    [0, 1, 2]
    """
    return np.asarray(generator.permutation(number)[: _count(count)])


def proportional(strata: Sequence[int], count: int, generator: np.random.Generator) -> Indices:
    """Return a stratified random sample: each stratum has its share, drawn at random within it.

    Systematic sampling of the nodules ordered by stratum (Cochran, Sampling Techniques, 1977,
    chapter 8), so that the number from a stratum differs from its share by less than one.

    Args:
        strata: [N] number of each one's stratum.
        count: greatest number to return.
        generator: orders the nodules of a stratum, and decides where the sampling starts.

    >>> strata = [0] * 6 + [1] * 3
    >>> chosen = proportional(strata, 3, np.random.default_rng(0))
    >>> sorted(strata[n] for n in chosen)
    [0, 0, 1]
    """
    groups = np.asarray(strata)
    count = min(_count(count), len(groups))
    if not count:
        return np.zeros(0, np.intp)
    order = generator.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    places = (generator.random() + np.arange(count)) * len(groups) / count
    return np.asarray(order[places.astype(np.intp)])


def k_centre(points: Array, known: Array, count: int) -> Indices:
    """Return a core-set: each time the point farthest from all that are known or chosen.

    Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach
    (2018), the greedy 2-approximation of k-centre.

    Args:
        points: [N, D].
        known: [L, D] points that are covered already; if empty, the point farthest from the mean
            is first.
        count: greatest number to return.

    >>> line = np.array([[0.0], [1.0], [5.0], [9.0]])
    >>> k_centre(line, np.array([[0.0]]), 2).tolist()
    [3, 2]
    """
    x = _points(points)
    given = _points(known) if len(known) else x.mean(0, keepdims=True)
    distance = nearest_squared(x, given)
    chosen: list[int] = []
    for _ in range(min(_count(count), len(x))):
        one = int(distance.argmax())
        chosen.append(one)
        distance = np.minimum(distance, ((x - x[one]) ** 2).sum(1))
        distance[one] = -1.0
    return np.array(chosen, np.intp)


def diverse(
    scores: Array,
    points: Array,
    known: Array,
    groups: Sequence[object],
    count: int,
    *,
    reach: float,
    group_factor: float = 0.5,
) -> Indices:
    """Return high scores that are unlike what is known or chosen, of several patients; greedy.

    Each next one has the greatest score x novelty x group_factor^n, where novelty = 1 -
    exp(-(d / reach)^2 / 2) of the distance d to the nearest point known or chosen, and n is how
    many of its group were chosen.

    Args:
        scores: [N], from 0 on.
        points: [N, D], such as embeddings.
        known: [L, D] points that are labelled; may be empty.
        groups: [N] patient of each.
        count: greatest number to return.
        reach: distance within which two points count as much the same.
        group_factor: 0..1, multiplies the worth of a patient's others for each one chosen of it.

    >>> points, nothing = np.array([[0.0], [0.1], [9.0]]), np.zeros((0, 1))
    >>> diverse(np.array([3.0, 2.9, 1.0]), points, nothing, "aab", 2, reach=1.0).tolist()
    [0, 2]
    """
    x, value = _points(points), np.asarray(scores, float)
    if not reach > 0 or not 0 <= group_factor <= 1:
        raise InputError(
            f"reach is {reach}, group_factor {group_factor}; above 0 and 0 to 1 are allowed"
        )
    names = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    group = np.array([names[name] for name in groups], np.intp)
    taken = np.zeros(len(names))
    distance = nearest_squared(x, _points(known)) if len(known) else np.full(len(x), np.inf)
    free = np.ones(len(x), bool)
    chosen: list[int] = []
    for _ in range(min(_count(count), len(x))):
        worth = value * (1 - np.exp(-distance / (2 * reach**2))) * group_factor ** taken[group]
        one = int(np.where(free, worth, -np.inf).argmax())
        chosen.append(one)
        free[one] = False
        taken[group[one]] += 1
        distance = np.minimum(distance, ((x - x[one]) ** 2).sum(1))
    return np.array(chosen, np.intp)


def nearest_squared(points: Array, known: Array) -> Array:
    """Return the squared distance of each point [N, D] to the nearest of those known [L, D], L > 0.

    >>> nearest_squared(np.array([[0.0], [5.0]]), np.array([[1.0], [9.0]])).tolist()
    [1.0, 16.0]
    """
    squares = (points**2).sum(1)[:, None] + (known**2).sum(1) - 2 * points @ known.T
    return np.asarray(np.maximum(squares.min(1), 0.0))


def _points(values: Array) -> Array:
    points = np.asarray(values, float)
    if points.ndim != 2:
        raise InputError(f"points have shape {points.shape}; [N, D] is needed")
    return points


def _count(count: int) -> int:
    if count < 0:
        raise InputError(f"{count} were asked for; 0 or more are allowed")
    return count
