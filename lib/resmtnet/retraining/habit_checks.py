"""Tells readings that follow a habit from readings that no habit explains.

A habit moves all ratings of a reader in one direction; the shipped model, moved in the same way,
then predicts them about as well as it predicts the readers that it learnt from. Two kinds of wrong
readings do not fit any such move: ratings that follow the model backwards, if only in a share of
the nodules (labels swapped now and then), and ratings that have nothing to do with the nodule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import MALIGNANCY
from resmtnet.network.uncertainty import softmax
from resmtnet.readings.record import Reading
from resmtnet.retraining.reading_check import Check, Limits
from resmtnet.retraining.samples import Sample
from resmtnet.types import Array

LEVELS: Array = np.arange(1.0, len(MALIGNANCY.levels) + 1)
MEANT = {"benign": (1, 2), "indeterminate": (3,), "malignant": (4, 5)}
"""Ratings that a class without a rating may stand for."""
CLEARLY = 1.0
"""Log likelihood from which the readings are told to be swapped."""
SWAPPED = (
    "some of the nodules were read the other way round than they look (are benign and malignant "
    "swapped now and then?)"
)
TOO_FEW = (
    "too few nodules were read whose malignancy is clear to exclude that some of the readings are "
    "swapped (read nodules of more patients)"
)
STEPS, MOST_TILT = 30, 4.0
TILT_VARIANCE = 4.0
"""Of the normal prior of a tilt around none."""
RARE = 0.5
"""Added to the count of each answer, so that none counts as impossible."""
ALIKE = 0.75
"""Readings of one nodule resemble one another: n of them count as n ** ALIKE. Of .5, .75 and 1 the
middle one; on patients kept for development swapped readings are told from right ones better with
.75 than with .5."""


def check_backwards(samples: Sequence[Sample], ratings: Array, limits: Limits) -> Check:
    """Check whether a share of the nodules is read backwards.

    Args:
        samples: of the site.
        ratings: [N, levels] logits of the shipped model's calibrated ratings.
        limits: see Limits.
    """
    meant, rows = _meant(samples)
    gain = math.nan
    if len(rows):
        logits, weight = ratings[rows], meant.sum(2).clip(0, 1).sum(1) ** (ALIKE - 1)
        gain = _likelihood(logits, meant, weight, limits.backwards) - _likelihood(
            logits, meant, weight, 0.0
        )
    refused = len(rows) >= limits.least_nodules and not gain < limits.backwards_evidence
    return Check(
        f"log likelihood, if {limits.backwards:.0%} of the nodules were read backwards, less that "
        "if none were",
        None if math.isnan(gain) else gain,
        None,
        None,
        (-math.inf, limits.backwards_evidence),
        len(rows),
        (SWAPPED if gain > CLEARLY else TOO_FEW) if refused else "",
    )


def check_related(name: str, samples: Sequence[Sample], ratings: Array, limits: Limits) -> Check:
    """Check whether the model predicts a reader's ratings better than their frequencies do.

    Args:
        name: of the reader.
        samples: of the site.
        ratings: [N, levels] logits of the shipped model's calibrated ratings.
        limits: see Limits.
    """
    given = [
        (n, _levels_meant(r))
        for n, s in enumerate(samples)
        for r in s.consensus.readings
        if r.reader == name
    ]
    rows = np.array([n for n, meant in given if meant.any()], np.intp)
    meant = np.array([meant for _, meant in given if meant.any()], float).reshape(-1, len(LEVELS))
    gain = math.nan
    if len(rows):
        tilt = _tilt(ratings[rows], meant[:, None], np.ones(len(rows)), np.zeros(len(rows)))
        shares = softmax(ratings[rows] + tilt * (LEVELS - LEVELS.mean()))
        by_model = np.log((shares * meant).sum(1)).sum()
        _, of_each, counts = np.unique(meant, axis=0, return_inverse=True, return_counts=True)
        usual = (counts + RARE) / (counts + RARE).sum()
        gain = float(by_model - np.log(usual[of_each.ravel()]).sum())
    least = -limits.unrelated
    refused = len(rows) >= limits.least_nodules and not gain > least
    return Check(
        f"reader {name}: log likelihood of the malignancy by the model less that by chance",
        None if math.isnan(gain) else gain,
        None,
        None,
        (least, math.inf),
        len(rows),
        f"the malignancy ratings of reader {name} are unrelated to what the nodules look like "
        "(exclude this reader's readings)"
        if refused
        else "",
    )


def _levels_meant(reading: Reading) -> NDArray[np.bool_]:
    """Return which ratings a reading may stand for, [levels]; none where it says nothing."""
    if reading.malignancy:
        return np.asarray(reading.malignancy == LEVELS)
    return np.isin(LEVELS, MEANT.get(str(reading.class_name), ()))


def _meant(samples: Sequence[Sample]) -> tuple[Array, NDArray[np.intp]]:
    """Return what the readers of each nodule mean, [n, readers, levels], and which nodules."""
    said = [[m for r in s.consensus.readings if (m := _levels_meant(r)).any()] for s in samples]
    rows = np.flatnonzero([len(one) for one in said])
    most = max((len(one) for one in said), default=0)
    meant = np.zeros((len(rows), most, len(LEVELS)))
    for place, n in enumerate(rows):
        meant[place, : len(said[n])] = said[n]
    return meant, rows


def _log_each(shares: Array, meant: Array) -> Array:
    """Return the log likelihood of all readings of each nodule, [n]."""
    there = meant.any(2)
    chance = np.where(there, (shares[:, None] * meant).sum(2), 1.0)
    return np.asarray(np.log(np.maximum(chance, 1e-12)).sum(1))


def _likelihood(logits: Array, meant: Array, weight: Array, share: float) -> float:
    """Return the log likelihood of the readings if a share of the nodules is read backwards.

    The readers' tilt is the most probable one for that share.
    """
    wrong = np.full(len(logits), share)
    tilt = 0.0
    for _ in range(STEPS if share else 1):
        tilt = _tilt(logits, meant, weight, wrong, tilt, steps=3 if share else STEPS)
        shares = softmax(logits + tilt * (LEVELS - LEVELS.mean()))
        right, back = (weight * _log_each(part, meant) for part in (shares, shares[:, ::-1]))
        if share:
            wrong = 1 / (1 + np.exp(np.clip(right - back, -50, 50)) * (1 - share) / share)
    both = np.logaddexp(right + np.log1p(-share), back + math.log(share)) if share else right
    return float(both.sum()) - tilt**2 / (2 * TILT_VARIANCE)


def _tilt(
    logits: Array,
    meant: Array,
    weight: Array,
    wrong: Array,
    start: float = 0.0,
    steps: int = STEPS,
) -> float:
    """Return the most probable tilt of the readers' ratings.

    Args:
        logits: [n, levels].
        meant: [n, readers, levels].
        weight: [n] of each reading of a nodule.
        wrong: [n] probability that the nodule was read backwards.
        start: where to begin.
        steps: of Newton's method.
    """
    tilt, readers = start, meant.any(2)
    for _ in range(steps):
        shares = softmax(logits + tilt * (LEVELS - LEVELS.mean()))
        mean = shares @ LEVELS
        variance = shares @ LEVELS**2 - mean**2
        residual = (1 - wrong) * _excess(shares, meant, readers, mean)
        residual -= wrong * _excess(shares[:, ::-1], meant, readers, 6 - mean)
        step = ((weight * residual).sum() - tilt / TILT_VARIANCE) / (
            (weight * readers.sum(1) * variance).sum() + 1 / TILT_VARIANCE
        )
        tilt = float(np.clip(tilt + np.clip(step, -0.5, 0.5), -MOST_TILT, MOST_TILT))
    return tilt


def _excess(shares: Array, meant: Array, readers: Array, mean: Array) -> Array:
    """Return by how much the readings of each nodule exceed the mean rating, summed, [n]."""
    chance = np.maximum((shares[:, None] * meant).sum(2), 1e-12)
    told = (shares[:, None] * meant) @ LEVELS / chance
    return np.asarray((np.where(readers, told - mean[:, None], 0.0)).sum(1))
