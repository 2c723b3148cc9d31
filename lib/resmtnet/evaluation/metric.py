"""The type of a metric: a function of truth and prediction, with a fast path for the bootstrap."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from resmtnet.types import Array


class Statistic(Protocol):
    """Of truth [N] and answer [N] or [N, K]; NaN where it is undefined."""

    def __call__(self, truth: Array, answer: Array, /) -> float:
        """Return the value."""


OfDraws = Callable[[ArrayLike, ArrayLike, Array], Array]
"""Of truth [N], answer [N, ...] and how often each draw holds each nodule [B, N]: values [B]."""


class Metric:
    """A statistic that is worked out for all draws of the bootstrap at once."""

    def __init__(self, plain: Callable[..., float], of_draws: OfDraws) -> None:
        self._plain = plain
        self.of_draws = of_draws
        functools.update_wrapper(self, plain)

    def __call__(self, truth: ArrayLike, answer: ArrayLike) -> float:
        """Return the value."""
        return self._plain(truth, answer)


def with_draws(of_draws: OfDraws) -> Callable[[Callable[..., float]], Metric]:
    """Give a statistic its own shortcut for many draws."""
    return lambda plain: Metric(plain, of_draws)


def mean_of(of_each: Callable[[Any, Any], Array]) -> Metric:
    """Make a metric of what is found for each nodule: the mean over nodules.

    >>> squared = mean_of(lambda truth, answer: (answer - truth) ** 2)
    >>> squared(np.zeros(2), np.array([1.0, 3.0]))
    5.0
    >>> squared.of_draws(np.zeros(2), np.array([1.0, 3.0]), np.array([[2.0, 0.0], [1.0, 1.0]]))
    array([1., 5.])
    """

    @functools.wraps(of_each)
    def plain(truth: ArrayLike, answer: ArrayLike) -> float:
        return float(np.mean(of_each(truth, answer)))

    def of_draws(truth: ArrayLike, answer: ArrayLike, counts: Array) -> Array:
        with np.errstate(invalid="ignore"):  # a draw without a nodule is undefined
            return np.asarray(counts @ of_each(truth, answer) / counts.sum(1), np.float64)

    return Metric(plain, of_draws)
