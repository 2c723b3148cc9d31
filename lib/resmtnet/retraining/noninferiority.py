"""Two versions on the same nodules: how much worse one is, with intervals drawn by patient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import TASKS
from resmtnet.data.consensus import malignant_share
from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.evaluation.metric import Statistic, mean_of
from resmtnet.evaluation.records import Case
from resmtnet.findings import finite
from resmtnet.inference import postprocessing as interpret
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import COVERAGE
from resmtnet.inference.point import RawPrediction
from resmtnet.training.cached_nodule import CachedNodule, raw_prediction
from resmtnet.types import Array, Json

SIZES = ("equivalent_diameter_mm", "long_axis_mm", "mean_diameter_mm")
"""A version is judged on the first, and on the second or, where that is unknown, the third."""
LEAST_P = 1e-3
"""Probabilities beyond this count as this: one nodule should not decide a log loss."""


@dataclass(frozen=True)
class ComparedNodules:
    """What readers say of the nodules that versions are compared on, [N] each; NaN: unknown."""

    cases: tuple[Case, ...]
    patients: tuple[str, ...]
    malignant: Array
    """1, 0, or NaN where the readers are undecided."""
    score: Array
    log_diameter: Array
    """Of the equivalent diameter, mm."""
    log_axis: Array
    """Of the long axis, mm; where it is unknown, of the mean diameter."""
    by_mean: NDArray[np.bool_]
    """The mean diameter stands in."""

    @classmethod
    def of(
        cls, held: Sequence[CachedNodule], shares: Sequence[float | None] | None = None
    ) -> ComparedNodules:
        """Read truths.

        Args:
            held: the nodules.
            shares: class of each, 1, 0, 0.5 or None; by default that of its malignancy ratings.
        """
        if shares is None:
            rated = (h.case.malignancy for h in held)
            shares = [malignant_share(r) if r else None for r in rated]
        volume, axis, mean = (
            np.log(np.array([h.truth.get(name, math.nan) for h in held], float)) for name in SIZES
        )
        by_mean = np.isnan(axis)
        return cls(
            tuple(h.case for h in held),
            tuple(h.case.patient_id for h in held),
            np.array([math.nan if s in (None, 0.5) else s for s in shares], float),
            np.array([math.nan if h.case.score is None else h.case.score for h in held], float),
            volume,
            np.where(by_mean, mean, axis),
            by_mean,
        )

    def rows(self, index: NDArray[np.intp]) -> ComparedNodules:
        """Return some of the nodules."""
        return ComparedNodules(
            tuple(self.cases[n] for n in index),
            tuple(self.patients[n] for n in index),
            self.malignant[index],
            self.score[index],
            self.log_diameter[index],
            self.log_axis[index],
            self.by_mean[index],
        )


@dataclass(frozen=True)
class Predictions:
    """What one version says of them, [N] each; NaN: nothing."""

    probability: Array
    score: Array
    score_interval: Array
    """[N, 2]"""
    log_diameter: Array
    log_diameter_interval: Array
    """[N, 2]"""
    log_axis: Array
    """See ComparedNodules."""
    log_axis_interval: Array
    """[N, 2]"""

    @classmethod
    def of(
        cls, nodules: ComparedNodules, held: Sequence[CachedNodule], calibration: Calibration
    ) -> Predictions:
        """Ask a version.

        Args:
            nodules: of the same held records.
            held: answered by its heads.
            calibration: of the version.
        """
        seen = [raw_prediction(one, calibration) for one in held]
        scores = [interpret.malignancy(one, calibration) for one in seen]
        sizes = [
            _sizes(one, by_mean, calibration)
            for one, by_mean in zip(seen, nodules.by_mean, strict=True)
        ]
        outputs = {
            task.name: np.array([one.observation.outputs[task.name] for one in seen])
            for task in TASKS
        }
        with np.errstate(invalid="ignore"):
            log = np.log(np.array(sizes, float).reshape(-1, 2, 3))
        return cls(
            np.clip(calibration.probability_malignant(outputs), LEAST_P, 1 - LEAST_P),
            np.array([m.score for m in scores]),
            np.array([m.interval_90 for m in scores]).reshape(-1, 2),
            log[:, 0, 0],
            log[:, 0, 1:],
            log[:, 1, 0],
            log[:, 1, 1:],
        )

    def rows(self, index: NDArray[np.intp]) -> Predictions:
        """Return the answers for some of the nodules."""
        return Predictions(**{name: values[index] for name, values in vars(self).items()})


def _sizes(
    seen: RawPrediction, by_mean: bool, calibration: Calibration
) -> list[tuple[float, float, float]]:
    """Return value and interval, mm, of the equivalent diameter and of an axis."""
    if seen.measured is None and seen.no_nodule:
        return [(math.nan, math.nan, math.nan)] * 2
    size = interpret.size(seen.observation, seen.measured, calibration)[0]
    volume, axis, mean = SIZES
    found = []
    for name in (volume, mean if by_mean else axis):
        low, high = size.interval_90.get(name, (math.nan, math.nan))
        value = getattr(size, name)
        found.append((math.nan if value is None else value, low, high))
    return found


@dataclass(frozen=True)
class ComparedMeasure:
    """One figure in which versions are compared; its loss is what grows when it gets worse."""

    name: str
    truth: Callable[[ComparedNodules], Array]
    answer: Callable[[Predictions], Array]
    """[N] or [N, K]"""
    statistic: Statistic
    loss: Callable[[Array], Array] = lambda values: values
    """Of the statistic: the larger, the worse."""


def _log_loss(malignant: Array, probability: Array) -> Array:
    of_class = np.where(malignant == 1, probability, 1 - probability)
    return np.asarray(-np.log(of_class), np.float64)


def _shortfall(coverage: Array) -> Array:
    return np.asarray(np.maximum(COVERAGE - coverage, 0.0))


_LOG_LOSS = mean_of(_log_loss)
AUC = ComparedMeasure(
    "class_auc", lambda n: n.malignant, lambda a: a.probability, metrics.auc, lambda v: -v
)
LOG_LOSS = ComparedMeasure(
    "class_log_loss", lambda n: n.malignant, lambda a: a.probability, _LOG_LOSS
)
SCORE_MAE = ComparedMeasure(
    "score_mae", lambda n: n.score, lambda a: a.score, metrics.mean_absolute_error
)
SCORE_COVERAGE = ComparedMeasure(
    "score_coverage", lambda n: n.score, lambda a: a.score_interval, metrics.coverage, _shortfall
)
SIZE_ERROR = ComparedMeasure(
    "size_error",
    lambda n: n.log_diameter,
    lambda a: a.log_diameter,
    metrics.mean_absolute_error,
)
SIZE_BIAS = ComparedMeasure(
    "size_bias", lambda n: n.log_diameter, lambda a: a.log_diameter, metrics.bias, np.abs
)
SIZE_COVERAGE = ComparedMeasure(
    "size_coverage",
    lambda n: n.log_diameter,
    lambda a: a.log_diameter_interval,
    metrics.coverage,
    _shortfall,
)
AXIS_ERROR = ComparedMeasure(
    "axis_error", lambda n: n.log_axis, lambda a: a.log_axis, metrics.mean_absolute_error
)
AXIS_BIAS = ComparedMeasure(
    "axis_bias", lambda n: n.log_axis, lambda a: a.log_axis, metrics.bias, np.abs
)
AXIS_COVERAGE = ComparedMeasure(
    "axis_coverage",
    lambda n: n.log_axis,
    lambda a: a.log_axis_interval,
    metrics.coverage,
    _shortfall,
)
MEASURES = (
    *(AUC, LOG_LOSS, SCORE_MAE, SCORE_COVERAGE),
    *(SIZE_ERROR, SIZE_BIAS, SIZE_COVERAGE, AXIS_ERROR, AXIS_BIAS, AXIS_COVERAGE),
)


@dataclass(frozen=True)
class Loss:
    """How much worse a candidate is than another version in one figure; below 0 it is better."""

    measure: str
    nodules: int
    candidate: float
    other: float
    value: float
    low: float
    """Two-sided interval of the loss; NaN where it cannot be drawn."""
    high: float

    def to_json(self) -> Json:
        """Return plain values."""
        return {k: v if isinstance(v, (str, int)) else finite(v) for k, v in vars(self).items()}


def losses(
    nodules: ComparedNodules,
    candidate: Predictions,
    other: Predictions,
    chosen: Sequence[ComparedMeasure] = MEASURES,
    *,
    among: NDArray[np.bool_] | None = None,
    config: BootstrapConfig,
) -> dict[str, Loss]:
    """Compare two versions, paired by patient, on the nodules that both answer.

    Args:
        nodules: with their truths.
        candidate: its answers.
        other: those of the version it must not fall behind.
        chosen: figures.
        among: [N] nodules to compare on; by default all.
        config: of the bootstrap; its confidence is that of the intervals.

    Returns:
        By figure; one that is undefined on these nodules is missing.
    """
    found: dict[str, Loss] = {}
    for measure in chosen:
        truth = measure.truth(nodules)
        answers = [measure.answer(a) for a in (candidate, other)]
        rows = np.isfinite(truth)
        for answer in answers:
            rows &= np.isfinite(answer.reshape(len(truth), -1)).all(1)
        rows = rows if among is None else rows & among
        loss = _loss(measure, nodules.patients, rows, truth, answers, config)
        if loss is not None:
            found[measure.name] = loss
    return found


def _loss(
    measure: ComparedMeasure,
    patients: Sequence[str],
    rows: NDArray[np.bool_],
    truth: Array,
    answers: Sequence[Array],
    config: BootstrapConfig,
) -> Loss | None:
    index = np.flatnonzero(rows)
    if not len(index):
        return None
    resamples = Resamples([patients[n] for n in index], config)
    each = [resamples.replicate(measure.statistic, truth[rows], answer[rows]) for answer in answers]
    candidate, other = (
        Replicates(float(measure.loss(np.array(r.value))), measure.loss(r.draws)) for r in each
    )
    estimate = (candidate - other).estimate(config.confidence)
    if estimate.value is None:
        return None
    low, high = (math.nan if b is None else b for b in (estimate.low, estimate.high))
    return Loss(measure.name, len(index), each[0].value, each[1].value, estimate.value, low, high)


def bands(nodules: ComparedNodules, edges_mm: Sequence[float]) -> Mapping[str, NDArray[np.bool_]]:
    """Return nodules by read diameter, lower end included."""
    diameter_mm = np.exp(nodules.log_diameter)
    ends = [0.0, *edges_mm, math.inf]
    return {
        f"{low:g}-{high:g} mm": (low <= diameter_mm) & (diameter_mm < high)
        for low, high in itertools.pairwise(ends)
    }
