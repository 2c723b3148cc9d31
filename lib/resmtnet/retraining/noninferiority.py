"""How much worse one version is than another on the same nodules, with intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.evaluation.metric import Statistic, mean_of, with_draws
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


def _concordance_of_draws(truth: Any, answer: Any, counts: Array) -> Array:
    """Concordance of each draw: a pair of nodules counts as often as it was drawn."""
    above = np.asarray(truth)[:, None] > np.asarray(truth)[None]
    said = np.asarray(answer)[:, None] - np.asarray(answer)[None]
    right = above * ((said > 0) + 0.5 * (said == 0))
    pairs = ((counts @ above) * counts).sum(1)
    with np.errstate(invalid="ignore"):  # a draw without two different truths is undefined
        return np.asarray(((counts @ right) * counts).sum(1) / pairs)


@with_draws(_concordance_of_draws)
def _concordance(truth: Array, answer: Array) -> float:
    """Share of pairs of nodules that an answer puts in the order of the truth."""
    return float(_concordance_of_draws(truth, answer, np.ones((1, len(truth))))[0])


def _spread_of_draws(truth: Any, answer: Any, counts: Array) -> Array:
    """Spread of each draw."""
    error, total = np.asarray(answer - truth), counts.sum(1)
    with np.errstate(invalid="ignore"):
        mean = counts @ error / total
        return np.asarray(np.sqrt(np.maximum(counts @ error**2 / total - mean**2, 0)))


@with_draws(_spread_of_draws)
def _spread(truth: Array, answer: Array) -> float:
    """Standard deviation of answer - truth: what is left of the error without the bias."""
    return float(np.std(answer - truth))


_DICE = mean_of(lambda _, dice: dice)
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
CONCORDANCE = ComparedMeasure(
    "score_concordance",
    "concordance of the malignancy score",
    "a malignancy score",
    lambda n: n.score,
    lambda p: p.score,
    _concordance,
    lambda share: -share,
)
SCORE_BIAS = ComparedMeasure(
    "score_bias",
    "bias of the malignancy score",
    "a malignancy score",
    lambda n: n.score,
    lambda p: p.score,
    metrics.bias,
    np.abs,
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
SIZE_SPREAD = ComparedMeasure(
    "size_spread",
    "spread of the log diameter's error",
    "a size",
    lambda n: n.log_diameter,
    lambda p: p.log_diameter,
    _spread,
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
AXIS_SPREAD = ComparedMeasure(
    "axis_spread",
    "spread of the log long axis's error",
    "a long axis",
    lambda n: n.log_axis,
    lambda p: p.log_axis,
    _spread,
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
DICE = ComparedMeasure(
    "mask_dice",
    "overlap of the mask with the readers' (Dice)",
    "a mask",
    lambda n: np.zeros(len(n.score)),
    lambda p: p.dice,
    _DICE,
    lambda dice: -dice,
)
_SHARE = mean_of(lambda _, shown: shown)
RECALL = ComparedMeasure(
    "nodule_recall",
    "share of nodules that a search shows",
    "a nodule probability",
    lambda n: np.zeros(len(n.score)),
    lambda p: p.shown,
    _SHARE,
    lambda share: -share,
)
SHOWN = ComparedMeasure(
    "rejected_shown",
    "share of the places called no nodule that a search shows",
    "a nodule probability",
    lambda n: np.zeros(len(n.score)),
    lambda p: p.shown,
    _SHARE,
)
NODULE_OR_NOT = (RECALL, SHOWN)
"""Of the output layer that tells nodules from other places, judged by itself."""
RANKING = (AUC, CONCORDANCE, SIZE_SPREAD, AXIS_SPREAD, DICE)
"""What no habit of readers changes that moves all nodules in one direction."""
UNTOUCHED = (SIZE_BIAS, AXIS_BIAS, SCORE_COVERAGE, SIZE_COVERAGE, AXIS_COVERAGE)
"""Of the answers without the site's habit, on whose sizes guideline categories rest."""
KNOWLEDGE = (*RANKING, *UNTOUCHED)
"""Compared on the reference set, by what a version says without the habit of the site."""
HABIT = (LOG_LOSS, SCORE_MAE, SCORE_BIAS, SIZE_ERROR, SIZE_BIAS, AXIS_ERROR, AXIS_BIAS)
"""Compared on the site's readings, by what a version says with it."""
MEASURES = (*KNOWLEDGE, *(m for m in HABIT if m not in KNOWLEDGE), *NODULE_OR_NOT)


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
