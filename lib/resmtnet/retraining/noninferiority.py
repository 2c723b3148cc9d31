"""How much worse one version is than another on the same nodules, with intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.evaluation.metric import Statistic, mean_of
from resmtnet.findings import finite
from resmtnet.inference.conformal import COVERAGE
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.types import Array, Json


@dataclass(frozen=True)
class ComparedMeasure:
    """One figure in which versions are compared."""

    name: str
    """In JSON."""
    label: str
    """In messages."""
    quantity: str
    """What a version predicts for it, in messages."""
    truth: Callable[[ComparedNodules], Array]
    prediction: Callable[[Predictions], Array]
    """[N] or [N, K]"""
    statistic: Statistic
    loss: Callable[[Array], Array] = lambda values: values
    """Turns the statistic into a loss: the larger, the worse."""

    def has_value(self, predictions: Predictions) -> NDArray[np.bool_]:
        """Return for which nodules a version predicts it, [N]."""
        values = self.prediction(predictions)
        return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(1))


def _log_loss(malignant: Array, probability: Array) -> Array:
    of_class = np.where(malignant == 1, probability, 1 - probability)
    return np.asarray(-np.log(of_class), np.float64)


def _shortfall(coverage: Array) -> Array:
    return np.asarray(np.maximum(COVERAGE - coverage, 0.0))


_LOG_LOSS = mean_of(_log_loss)
AUC = ComparedMeasure(
    "class_auc",
    "class AUC",
    "a class probability",
    lambda n: n.malignant,
    lambda p: p.probability,
    metrics.auc,
    lambda auc: -auc,
)
LOG_LOSS = ComparedMeasure(
    "class_log_loss",
    "class log loss",
    "a class probability",
    lambda n: n.malignant,
    lambda p: p.probability,
    _LOG_LOSS,
)
SCORE_MAE = ComparedMeasure(
    "score_mae",
    "error of the malignancy score",
    "a malignancy score",
    lambda n: n.score,
    lambda p: p.score,
    metrics.mean_absolute_error,
)
SCORE_COVERAGE = ComparedMeasure(
    "score_coverage",
    "coverage of the malignancy score's interval",
    "an interval of the malignancy score",
    lambda n: n.score,
    lambda p: p.score_interval,
    metrics.coverage,
    _shortfall,
)
SIZE_ERROR = ComparedMeasure(
    "size_error",
    "error of the log diameter",
    "a size",
    lambda n: n.log_diameter,
    lambda p: p.log_diameter,
    metrics.mean_absolute_error,
)
SIZE_BIAS = ComparedMeasure(
    "size_bias",
    "bias of the log diameter",
    "a size",
    lambda n: n.log_diameter,
    lambda p: p.log_diameter,
    metrics.bias,
    np.abs,
)
SIZE_COVERAGE = ComparedMeasure(
    "size_coverage",
    "coverage of the diameter's interval",
    "an interval of the size",
    lambda n: n.log_diameter,
    lambda p: p.log_diameter_interval,
    metrics.coverage,
    _shortfall,
)
AXIS_ERROR = ComparedMeasure(
    "axis_error",
    "error of the log long axis",
    "a long axis",
    lambda n: n.log_axis,
    lambda p: p.log_axis,
    metrics.mean_absolute_error,
)
AXIS_BIAS = ComparedMeasure(
    "axis_bias",
    "bias of the log long axis",
    "a long axis",
    lambda n: n.log_axis,
    lambda p: p.log_axis,
    metrics.bias,
    np.abs,
)
AXIS_COVERAGE = ComparedMeasure(
    "axis_coverage",
    "coverage of the long axis's interval",
    "an interval of the long axis",
    lambda n: n.log_axis,
    lambda p: p.log_axis_interval,
    metrics.coverage,
    _shortfall,
)
MEASURES = (
    *(AUC, LOG_LOSS, SCORE_MAE, SCORE_COVERAGE),
    *(SIZE_ERROR, SIZE_BIAS, SIZE_COVERAGE, AXIS_ERROR, AXIS_BIAS, AXIS_COVERAGE),
)


@dataclass(frozen=True)
class Loss:
    """How much worse a candidate is than another version in one measure; below 0: better."""

    measure: ComparedMeasure
    nodules: int
    candidate: float
    other: float
    value: float
    low: float
    """Two-sided interval of the loss; NaN where it cannot be drawn."""
    high: float

    def to_json(self) -> Json:
        """Return plain values."""
        numbers = ("candidate", "other", "value", "low", "high")
        found = {name: finite(getattr(self, name)) for name in numbers}
        return {"measure": self.measure.name, "nodules": self.nodules, **found}


def losses(
    nodules: ComparedNodules,
    candidate: Predictions,
    other: Predictions,
    chosen: Sequence[ComparedMeasure] = MEASURES,
    *,
    among: NDArray[np.bool_] | None = None,
    config: BootstrapConfig,
) -> tuple[Loss, ...]:
    """Compare two versions, paired by patient, on the nodules for which both have a value.

    Args:
        nodules: with their truths.
        candidate: its predictions.
        other: those of the version it is compared with.
        chosen: measures to compare.
        among: [N] nodules to compare on; by default all.
        config: of the bootstrap; its confidence is that of the intervals.

    Returns:
        One for each measure, without those that are undefined on these nodules.
    """
    found = []
    for measure in chosen:
        truth = measure.truth(nodules)
        rows = np.isfinite(truth) & measure.has_value(candidate) & measure.has_value(other)
        rows = rows if among is None else rows & among
        predicted = [measure.prediction(version) for version in (candidate, other)]
        loss = _loss(measure, nodules.patients, rows, truth, predicted, config)
        if loss is not None:
            found.append(loss)
    return tuple(found)


def _loss(
    measure: ComparedMeasure,
    patients: Sequence[str],
    rows: NDArray[np.bool_],
    truth: Array,
    predicted: Sequence[Array],
    config: BootstrapConfig,
) -> Loss | None:
    index = np.flatnonzero(rows)
    if not len(index):
        return None
    resamples = Resamples([patients[n] for n in index], config)
    each = [resamples.replicate(measure.statistic, truth[rows], one[rows]) for one in predicted]
    candidate, other = (
        Replicates(float(measure.loss(np.array(r.value))), measure.loss(r.draws)) for r in each
    )
    estimate = (candidate - other).estimate(config.confidence)
    if estimate.value is None:
        return None
    low, high = (math.nan if b is None else b for b in (estimate.low, estimate.high))
    return Loss(measure, len(index), each[0].value, each[1].value, estimate.value, low, high)
