"""Percentile bootstrap over patients: all nodules of a drawn patient come along.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import InputError

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], float]
"""Of truth [N] and answer [N] or [N, K]; NaN where it is undefined."""

LEAST_PATIENTS = 5
"""Fewer give no interval."""
UNDEFINED_SHARE = 0.05
"""More undefined resamples than this give no interval: the rest would be a biased choice."""


@dataclass(frozen=True)
class BootstrapConfig:
    """How intervals are made."""

    resamples: int = 2000
    """Draws of patients."""
    confidence: float = 0.95
    """Share of the resamples within the interval."""
    seed: int = 0
    """Of the draws; the same patients give the same draws, so that differences are paired."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, eq=False)
class Replicates:
    """A statistic of the nodules and of each draw; NaN where it is undefined."""

    value: float
    draws: Array
    """[resamples]"""

    def __sub__(self, other: Replicates) -> Replicates:
        """Return the difference, paired where both are of the same draws."""
        return Replicates(self.value - other.value, self.draws - other.draws)

    def estimate(self, confidence: float) -> Estimate:
        """Return the value with its percentile interval, None where undefined."""
        if not math.isfinite(self.value):
            return Estimate(None)
        finite = self.draws[np.isfinite(self.draws)]
        if not len(finite) or len(finite) < (1 - UNDEFINED_SHARE) * len(self.draws):
            return Estimate(self.value)
        tail = (1 - confidence) / 2
        low, high = np.quantile(finite, [tail, 1 - tail])
        return Estimate(self.value, float(low), float(high))


class Resamples:
    """Draws of patients with replacement, as indices of nodules."""

    def __init__(self, patients: Sequence[str], config: BootstrapConfig) -> None:
        """Make the draws.

        Args:
            patients: [N] patient of each nodule.
            config: number of draws and their seed.
        """
        self.nodules = len(patients)
        unique, group = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        self.patients = len(unique)
        order, counts = np.argsort(group, kind="stable"), np.bincount(group)
        starts = np.cumsum(counts) - counts
        generator = np.random.default_rng(config.seed)
        self.draws: list[NDArray[np.intp]] = []
        if self.patients >= LEAST_PATIENTS:
            for _ in range(config.resamples):
                drawn = generator.integers(self.patients, size=self.patients)
                sizes = counts[drawn]
                shift = np.repeat(starts[drawn] - (np.cumsum(sizes) - sizes), sizes)
                self.draws.append(order[shift + np.arange(sizes.sum())])

    def replicate(self, statistic: Statistic, truth: Array, answer: Array) -> Replicates:
        """Return a statistic of the nodules and of each draw.

        Args:
            statistic: of truth and answer.
            truth: [N].
            answer: [N] or [N, K].

        Raises:
            InputError: truth or answer do not belong to these nodules.

        >>> resamples = Resamples([str(n) for n in range(100)], BootstrapConfig(resamples=200))
        >>> error = np.tile([-1.0, 1.0], 50)
        >>> mean = resamples.replicate(lambda t, a: float(np.mean(a)), error, error).estimate(0.95)
        >>> mean.value, round(mean.low, 1), round(mean.high, 1)
        (0.0, -0.2, 0.2)
        """
        if len(truth) != self.nodules or len(answer) != self.nodules:
            raise InputError(
                f"these resamples are of {self.nodules} nodules; got {len(truth)} truths and "
                f"{len(answer)} answers"
            )
        if not self.nodules:
            return Replicates(math.nan, np.zeros(0))
        drawn = [statistic(truth[i], answer[i]) for i in self.draws]
        return Replicates(statistic(truth, answer), np.array(drawn, np.float64))
