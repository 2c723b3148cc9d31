"""Checks of one reader against the others, who read the same nodules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.metric import mean_of
from resmtnet.readings.record import Reading
from resmtnet.retraining.reading_check import (
    Check,
    Limits,
    estimate_by_patient,
    make_check,
    median,
)
from resmtnet.retraining.samples import Sample, vote_of
from resmtnet.types import Array


def check_reader(
    name: str,
    samples: Sequence[Sample],
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    """Compare one reader with the others of the same nodules.

    Args:
        name: of the reader.
        samples: of the site.
        limits: see Limits.
        config: of the bootstrap by patient.
    """
    own = [_of_reader(s, name) for s in samples]
    others = [[r for r in s.consensus.readings if r.reader != name] for s in samples]
    patients = [s.patient_id for s in samples]
    sizes = np.array([_log_ratio(o, r) for o, r in zip(own, others, strict=True)], float)
    beside = np.array([_ratings(o, r) for o, r in zip(own, others, strict=True)], float)
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
    ]


def _of_reader(sample: Sample, name: str) -> Reading | None:
    return next((r for r in sample.consensus.readings if r.reader == name), None)


def _ratings(own: Reading | None, others: Sequence[Reading]) -> tuple[float, float]:
    """Return a reader's rating and the mean of the others'."""
    mine = None if own is None else vote_of(own)
    voices = [float(v) for r in others if (v := vote_of(r)) is not None]
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
