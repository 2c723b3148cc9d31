"""Bootstrap intervals; patients are drawn, each with all of its nodules.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import InputError
from resmtnet.evaluation.metric import Metric, Statistic
from resmtnet.types import Array

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
    """Draws of patients with replacement; all rows of a patient come along each time."""

    def __init__(
        self, patients: Sequence[str], config: BootstrapConfig, among: Sequence[str] | None = None
    ) -> None:
        """Make the draws.

        Args:
            patients: [N] patient of each row (a nodule, or one reading of it).
            config: number of draws and their seed.
            among: patients that are drawn, if more than those; the same patients and seed give
                the same draws, so that figures on different rows of them are paired.
        """
        self.rows = len(patients)
        unique = sorted(set(patients if among is None else among))
        place = {patient: n for n, patient in enumerate(unique)}
        self._group = np.array([place[patient] for patient in patients], np.intp)
        self.patients = len(unique)
        count = config.resamples if self.patients >= LEAST_PATIENTS else 0
        self._drawn = _drawn(self.patients, count, config.seed)

    @property
    def draws(self) -> Iterator[NDArray[np.intp]]:
        """The rows of each draw, as indices."""
        index = np.arange(self.rows)
        return (np.repeat(index, drawn[self._group]) for drawn in self._drawn)

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
        if len(truth) != self.rows or len(answer) != self.rows:
            raise InputError(
                f"these resamples are of {self.rows} nodules; got {len(truth)} truths and "
                f"{len(answer)} answers"
            )
        if not self.rows:
            return Replicates(math.nan, np.full(len(self._drawn), math.nan))
        if isinstance(statistic, Metric):
            counts = self._drawn[:, self._group].astype(np.float64)
            drawn = statistic.of_draws(truth, answer, counts)
        else:
            drawn = np.array(
                [statistic(truth[i], answer[i]) if len(i) else math.nan for i in self.draws],
                np.float64,
            )
        return Replicates(statistic(truth, answer), drawn)


@functools.lru_cache(maxsize=32)
def _drawn(patients: int, count: int, seed: int) -> NDArray[np.int16]:
    """How often each draw holds each patient, [count, patients]."""
    generator = np.random.default_rng(seed)
    drawn = np.zeros((count, patients), np.int16)
    for row in drawn:
        row += np.bincount(generator.integers(patients, size=patients), minlength=patients).astype(
            np.int16
        )
    drawn.setflags(write=False)
    return drawn
