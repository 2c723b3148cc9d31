"""Whether a site's readings can be what they claim to be, before anything is learnt from them.

A model that learns wrong labels looks right on wrong labels, so that held-out readings of the same
site do not catch them. What does: the readings against the shipped model, which never saw them, and
the readers against one another. A site may have habits (a severe reader, larger sizes); readings
that contradict the model, other units, or a reader unlike the others are no habit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from resmtnet.evaluation.bootstrap import BootstrapConfig, Estimate, Resamples
from resmtnet.evaluation.metric import Statistic, mean_of, with_draws
from resmtnet.readings.record import Reading
from resmtnet.retraining.noninferiority import AUC, ComparedNodules, Predictions
from resmtnet.retraining.samples import Sample, vote_of
from resmtnet.types import Array, Json

LEAST_SPREAD = 1e-9
"""Ranks that vary less than this are all alike."""


@dataclass(frozen=True)
class Limits:
    """What readings may differ by; each is refused only if it is shown, not if it may be so."""

    auc_drop: float = 0.10
    """How much worse than on the reference set the shipped model may separate the site's classes.
    A severe or lenient reader costs it about 0.03."""
    size_ratio: float = 1.25
    """Typical ratio of read and told sizes, either way: beyond the habits of readers, whose
    diameters of one nodule differ by about 15%."""
    size_spread: float = 2.0
    """How much wider than on the reference set the ratios may scatter."""
    reader_size_ratio: float = 1.10
    """Ratio of one reader's sizes and those of the others on the same nodules."""
    reader_rating: float = 1.0
    """Difference of one reader's malignancy and that of the others, levels."""
    reader_agreement: float = 0.4
    """Least rank correlation of one reader's malignancy with the others' and the model's. LIDC's
    readers have about 0.7."""
    least_nodules: int = 10
    """With fewer nodules nothing of the kind is shown."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    value: float | None
    low: float | None
    high: float | None
    allowed: tuple[float, float]
    nodules: int
    complaint: str = ""
    """Why the readings cannot be trusted; empty where they can."""

    def to_json(self) -> Json:
        """Return plain values."""
        return {**vars(self), "allowed": list(self.allowed)}


def check(
    samples: Sequence[Sample],
    shipped: tuple[ComparedNodules, Predictions],
    reference: tuple[ComparedNodules, Predictions],
    limits: Limits,
    config: BootstrapConfig,
    which: str = "",
) -> list[Check]:
    """Look at a site's readings.

    Args:
        samples: of the site; those that trained too, since the shipped model saw none.
        shipped: what their readers say, and the shipped model's answers.
        reference: the same of the reference set.
        limits: see Limits.
        config: of the bootstrap by patient.
        which: of the site's readings these are, before the name of each check.
    """
    found = [*_against_model(shipped, reference, limits, config)]
    for name in sorted({r.reader for s in samples for r in s.said.readings}):
        found += _reader(name, samples, shipped[1], limits, config)
    return [replace(one, what=f"{which}{one.what}") for one in found]


def _against_model(
    site: tuple[ComparedNodules, Predictions],
    reference: tuple[ComparedNodules, Predictions],
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    (nodules, answers), (known, usual) = site, reference
    patients = nodules.patients
    found = []
    rows = np.isfinite(nodules.malignant)
    clear = np.isfinite(known.malignant)
    least = float(AUC.statistic(known.malignant[clear], usual.probability[clear])) - limits.auc_drop
    found.append(
        _found(
            "class: AUC of the shipped model on the site's readings",
            _estimate(
                AUC.statistic, rows, patients, config, nodules.malignant, answers.probability
            ),
            (least, 1.0),
            int(rows.sum()),
            limits,
            "the classes read contradict the shipped model: are labels swapped?",
        )
    )
    ratios = {
        "volume": (
            nodules.log_diameter - answers.log_diameter,
            known.log_diameter - usual.log_diameter,
        ),
        "axes": (nodules.log_axis - answers.log_axis, known.log_axis - usual.log_axis),
    }
    for name, (ratio, usual_ratio) in ratios.items():
        found += _sizes(name, ratio, usual_ratio, patients, limits, config)
    return found


def _sizes(
    name: str,
    ratio: Array,
    usual_ratio: Array,
    patients: Sequence[str],
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    """Look at the log of read / told, [N], of one kind of size; the usual is of the reference."""
    rows = np.isfinite(ratio)
    edge = float(np.log(limits.size_ratio))
    most = limits.size_spread * _spread(usual_ratio[np.isfinite(usual_ratio)])
    return [
        _found(
            f"{name}: median log of read / told",
            _estimate(_median, rows, patients, config, ratio, ratio),
            (-edge, edge),
            int(rows.sum()),
            limits,
            "the sizes read are of another order than the masks: are they in mm, and diameters?",
        ),
        _found(
            f"{name}: spread of the log of read / told",
            _estimate(_spread_of, rows, patients, config, ratio, ratio),
            (0.0, most),
            int(rows.sum()),
            limits,
            "the sizes read have little to do with the masks: do they belong to these nodules?",
        ),
    ]


def _reader(
    name: str,
    samples: Sequence[Sample],
    shipped: Predictions,
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    """Compare one reader with the others of the same nodules, and with the model."""
    own = [_of_reader(s, name) for s in samples]
    others = [[r for r in s.said.readings if r.reader != name] for s in samples]
    patients = [s.patient_id for s in samples]
    sizes = np.array([_log_ratio(o, r) for o, r in zip(own, others, strict=True)], float)
    ratings, consensus = (
        np.array(
            [_ratings(o, r, m) for o, r, m in zip(own, others, shipped.score, strict=True)], float
        )
        .reshape(-1, 2)
        .T
    )
    beside = np.array([_ratings(o, r, None) for o, r in zip(own, others, strict=True)], float)
    differs = beside.reshape(-1, 2) @ np.array([1.0, -1.0])
    edge = float(np.log(limits.reader_size_ratio))
    return [
        _found(
            f"reader {name}: median log ratio of sizes and the others'",
            _estimate(_median, np.isfinite(sizes), patients, config, sizes, sizes),
            (-edge, edge),
            int(np.isfinite(sizes).sum()),
            limits,
            f"the sizes of reader {name} differ from those of the others: exclude them, or agree "
            "on how to measure",
            point=True,
        ),
        _found(
            f"reader {name}: mean difference of malignancy from the others'",
            _estimate(_mean, np.isfinite(differs), patients, config, differs, differs),
            (-limits.reader_rating, limits.reader_rating),
            int(np.isfinite(differs).sum()),
            limits,
            f"the malignancy of reader {name} differs from that of the others",
            point=True,
        ),
        _found(
            f"reader {name}: rank correlation of malignancy with the others and the model",
            _estimate(
                _correlation, np.isfinite(ratings + consensus), patients, config, ratings, consensus
            ),
            (limits.reader_agreement, 1.0),
            int(np.isfinite(ratings + consensus).sum()),
            limits,
            f"the malignancy of reader {name} has nothing to do with that of the others: exclude "
            "this reader's readings",
        ),
    ]


def _of_reader(sample: Sample, name: str) -> Reading | None:
    return next((r for r in sample.said.readings if r.reader == name), None)


def _ratings(
    own: Reading | None, others: Sequence[Reading], model: float | None
) -> tuple[float, float]:
    """Return a reader's rating and the mean of the others', the model one of them."""
    mine = None if own is None else vote_of(own)
    voices = [float(v) for r in others if (v := vote_of(r)) is not None]
    voices += [] if model is None else [model]
    return (float(mine), float(np.mean(voices))) if mine and voices else (np.nan, np.nan)


def _log_ratio(own: Reading | None, others: Sequence[Reading]) -> float:
    """Return the mean log ratio of a reader's sizes and the others' geometric mean, as lengths."""
    logs = []
    for name, mine in own.sizes.items() if own else ():
        theirs = [r.sizes[name] for r in others if r.sizes.get(name)]
        if theirs and mine and name != "solid_component_mm":
            third = 3.0 if name.endswith("mm3") else 1.0
            logs.append((np.log(mine) - np.mean(np.log(theirs))) / third)
    return float(np.mean(logs)) if logs else np.nan


def _estimate(
    statistic: Statistic,
    rows: NDArray[np.bool_],
    patients: Sequence[str],
    config: BootstrapConfig,
    truth: Array,
    answer: Array,
) -> Estimate:
    index = np.flatnonzero(rows)
    if not len(index):
        return Estimate(None)
    resamples = Resamples([patients[n] for n in index], config)
    replicates = resamples.replicate(statistic, truth[rows], answer[rows])
    return replicates.estimate(config.confidence)


def _found(
    what: str,
    estimate: Estimate,
    allowed: tuple[float, float],
    nodules: int,
    limits: Limits,
    complaint: str,
    *,
    point: bool = False,
) -> Check:
    """Complain where the interval lies outside what is allowed.

    With `point` the value itself must be outside, and the interval on its side of no difference.
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


def complaints(found: Sequence[Check]) -> list[str]:
    """Return why the readings cannot be trusted, each once."""
    return list(dict.fromkeys(f.complaint for f in found if f.complaint))


@mean_of
def _mean(values: Array, _: Array) -> Array:
    return values


def _median(values: Array, _: Array) -> float:
    return float(np.median(values))


def _spread(values: Array) -> float:
    """Return the half distance of the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 2


def _spread_of(values: Array, _: Array) -> float:
    return _spread(values)


def _correlation_of_draws(ratings: Any, consensus: Any, counts: Array) -> Array:
    """Correlation of each draw; the ranks are those among all nodules."""
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (ratings, consensus))
    total = counts.sum(1)
    mean_x, mean_y = counts @ x / total, counts @ y / total
    covariance = counts @ (x * y) / total - mean_x * mean_y
    spread = (counts @ x**2 / total - mean_x**2) * (counts @ y**2 / total - mean_y**2)
    known = spread > LEAST_SPREAD
    return np.where(known, covariance / np.sqrt(np.where(known, spread, 1.0)), 0.0)


@with_draws(_correlation_of_draws)
def _correlation(ratings: Array, consensus: Array) -> float:
    """Spearman's; 0 for a reader who says the same of all."""
    return float(_correlation_of_draws(ratings, consensus, np.ones((1, len(ratings))))[0])
