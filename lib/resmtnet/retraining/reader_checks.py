"""Checks of one reader against the others, who read the same nodules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.metric import mean_of, with_draws
from resmtnet.readings.record import Reading
from resmtnet.retraining.compared_nodules import Predictions
from resmtnet.retraining.reading_check import (
    Check,
    Limits,
    estimate_by_patient,
    make_check,
    median,
)
from resmtnet.retraining.samples import Sample, vote_of
from resmtnet.types import Array

LEAST_SPREAD = 1e-9
"""Ranks that vary less than this are all alike."""


def check_reader(
    name: str,
    samples: Sequence[Sample],
    shipped: Predictions,
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    """Compare one reader with the others of the same nodules, and with the shipped model.

    Args:
        name: of the reader.
        samples: of the site.
        shipped: predictions of the shipped model for these nodules.
        limits: see Limits.
        config: of the bootstrap by patient.
    """
    own = [_of_reader(s, name) for s in samples]
    others = [[r for r in s.consensus.readings if r.reader != name] for s in samples]
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
        make_check(
            f"reader {name}: median log ratio of sizes and the others'",
            estimate_by_patient(median, np.isfinite(sizes), patients, config, sizes, sizes),
            (-edge, edge),
            int(np.isfinite(sizes).sum()),
            limits,
            f"reader {name} measures other sizes than the other readers (agree on how to measure, "
            "or exclude these readings)",
            point=True,
        ),
        make_check(
            f"reader {name}: mean difference of malignancy from the others'",
            estimate_by_patient(_mean, np.isfinite(differs), patients, config, differs, differs),
            (-limits.reader_rating, limits.reader_rating),
            int(np.isfinite(differs).sum()),
            limits,
            f"reader {name} gives other malignancy ratings than the other readers",
            point=True,
        ),
        make_check(
            f"reader {name}: rank correlation of malignancy with the others and the model",
            estimate_by_patient(
                _correlation, np.isfinite(ratings + consensus), patients, config, ratings, consensus
            ),
            (limits.reader_agreement, 1.0),
            int(np.isfinite(ratings + consensus).sum()),
            limits,
            f"the malignancy ratings of reader {name} are unrelated to those of the others "
            "(exclude this reader's readings)",
        ),
    ]


def _of_reader(sample: Sample, name: str) -> Reading | None:
    return next((r for r in sample.consensus.readings if r.reader == name), None)


def _ratings(
    own: Reading | None, others: Sequence[Reading], model: float | None
) -> tuple[float, float]:
    """Return a reader's rating and the mean of the others', the model counted as one."""
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


@mean_of
def _mean(values: Array, _: Array) -> Array:
    return values


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
    """Spearman's rank correlation; 0 for a reader who gives all nodules the same rating."""
    return float(_correlation_of_draws(ratings, consensus, np.ones((1, len(ratings))))[0])
