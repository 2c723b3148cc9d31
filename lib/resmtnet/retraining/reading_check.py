"""One check of a site's readings: its limits, how it is estimated, and when it refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resmtnet.evaluation.bootstrap import BootstrapConfig, Estimate, Resamples
from resmtnet.evaluation.metric import Statistic, with_draws
from resmtnet.findings import finite
from resmtnet.types import Array, Json


@dataclass(frozen=True)
class Limits:
    """How far readings may differ; they are refused only where a larger difference is shown."""

    auc_drop: float = 0.10
    """How much lower than on the reference set the shipped model's AUC of the class may be.
    A severe or lenient reader costs it about 0.03."""
    size_ratio: float = 1.25
    """Median ratio of read and predicted sizes, either way: beyond the habits of readers, whose
    diameters of one nodule differ by about 15%."""
    size_spread: float = 2.0
    """How much wider than on the reference set the ratios may scatter."""
    reader_size_ratio: float = 1.10
    """Ratio of one reader's sizes and those of the others on the same nodules."""
    reader_rating: float = 2.0
    """Difference of one reader's malignancy and that of the others, levels: beyond that of a severe
    reader among lenient ones."""
    unrelated: float = 7.0
    """How much worse than by chance the model may predict one reader's malignancy, natural log of
    the likelihood, with a tilt of that reader's own."""
    backwards: float = 0.25
    """Share of the nodules read backwards that must be excluded ..."""
    backwards_evidence: float = -2.0
    """... by a log likelihood at least so far below that of none: the strictest limit at which nine
    of ten sites of every rightful kind were accepted among patients kept for development ..."""
    backwards_evidence_of_few: float = -1.0
    """... and so far where there are too few patients for new weights ..."""
    backwards_evidence_of_new: float = 0.0
    """... and of readings that are new since the served version, of a site with enough patients in
    all: so few cannot show that they are right, only that they are wrong."""
    least_nodules: int = 10
    """With fewer nodules no check decides."""


@dataclass(frozen=True)
class Check:
    """One check of the readings, with its result."""

    what: str
    value: float | None
    low: float | None
    high: float | None
    allowed: tuple[float, float]
    nodules: int
    complaint: str = ""
    """Why the readings are refused, a sentence without its full stop; empty: they are not."""

    def to_json(self) -> Json:
        """Return plain values; an end that nothing limits is None."""
        numbers = {name: finite(getattr(self, name)) for name in ("value", "low", "high")}
        return {**vars(self), **numbers, "allowed": [finite(bound) for bound in self.allowed]}


def estimate_by_patient(
    statistic: Statistic,
    rows: NDArray[np.bool_],
    patients: Sequence[str],
    config: BootstrapConfig,
    truth: Array,
    answer: Array,
) -> Estimate:
    """Estimate a statistic over some nodules, with its interval drawn by patient."""
    index = np.flatnonzero(rows)
    if not len(index):
        return Estimate(None)
    resamples = Resamples([patients[n] for n in index], config)
    replicates = resamples.replicate(statistic, truth[rows], answer[rows])
    return replicates.estimate(config.confidence)


def make_check(
    what: str,
    estimate: Estimate,
    allowed: tuple[float, float],
    nodules: int,
    limits: Limits,
    complaint: str,
    *,
    point: bool = False,
) -> Check:
    """Refuse readings where the whole interval lies outside the allowed range.

    Args:
        what: was checked.
        estimate: the value found, with its interval.
        allowed: least and greatest value.
        nodules: behind the estimate.
        limits: says with how few nodules no check decides.
        complaint: why the readings are refused.
        point: refuse where the value itself is outside and its interval excludes 0.
    """
    value, low, high = estimate.value, estimate.low, estimate.high
    shown = False
    if (
        value is not None
        and low is not None
        and high is not None
        and nodules >= limits.least_nodules
    ):
        over, under = (value, value) if point else (low, high)
        away = low > 0 or high < 0
        shown = (over > allowed[1] or under < allowed[0]) and (away or not point)
    return Check(what, value, low, high, allowed, nodules, complaint if shown else "")


def quantile_of_draws(values: Array, counts: Array, share: float) -> Array:
    """Return a quantile of the values of each draw, [B], as np.quantile does.

    Args:
        values: [N].
        counts: [B, N] how often each draw holds each value.
        share: 0..1.
    """
    order = np.argsort(values)
    ranked, reached = values[order], np.cumsum(counts[:, order], axis=1)
    place = share * (reached[:, -1] - 1)
    low, high = (
        ranked[np.minimum((reached <= at[:, None]).sum(1), len(values) - 1)]
        for at in (np.floor(place), np.ceil(place))
    )
    return np.asarray(low + (high - low) * (place - np.floor(place)))


@with_draws(lambda values, _, counts: quantile_of_draws(np.asarray(values), counts, 0.5))
def median(values: Array, _: Array) -> float:
    """Return the median, as a Statistic."""
    return float(np.median(values))


def _spread_of_draws(values: ArrayLike, _: ArrayLike, counts: Array) -> Array:
    low, high = (quantile_of_draws(np.asarray(values), counts, share) for share in (0.25, 0.75))
    return np.asarray((high - low) / 2)


@with_draws(_spread_of_draws)
def half_spread(values: Array, _: Array) -> float:
    """Return the half distance of the quartiles, as a Statistic."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 2
