"""Tells readings that follow a habit from readings that no habit explains.

A habit moves all ratings of a reader in one direction; the shipped model, moved in the same way,
then predicts them about as well as it predicts the readers that it learnt from. Two kinds of wrong
readings do not fit any such move: ratings that follow the model backwards, if only in a share of
the nodules (labels swapped now and then), and ratings that have nothing to do with the nodule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    said, rows = _said(samples)
    gain = math.nan
    if len(rows):
        gain = _likelihood(ratings[rows], said, limits.backwards) - _likelihood(
            ratings[rows], said, 0.0
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
        own = _Said(meant[:, None], np.zeros((len(rows), 1), np.intp))
        tilt = _tilts(ratings[rows], own, np.zeros(len(rows)), np.zeros(1))
        by_model = np.log((_shares(ratings[rows], own, tilt)[:, 0] * meant).sum(1)).sum()
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


@dataclass(frozen=True, eq=False)
class _Said:
    """What the readers of some nodules mean."""

    meant: Array
    """[n, readings, levels] 1 for each rating that a reading may stand for; 0: no reading."""
    reader: NDArray[np.intp]
    """[n, readings] number of the reader."""

    @property
    def there(self) -> NDArray[np.bool_]:
        """[n, readings] whether there is a reading."""
        return np.asarray(self.meant.any(2))

    @property
    def weight(self) -> Array:
        """[n] of each reading of a nodule."""
        return np.asarray(self.there.sum(1) ** (ALIKE - 1.0))


def _said(samples: Sequence[Sample]) -> tuple[_Said, NDArray[np.intp]]:
    """Return what the readers of each nodule mean, and which nodules."""
    told = [
        [(m, r.reader) for r in s.consensus.readings if (m := _levels_meant(r)).any()]
        for s in samples
    ]
    rows = np.flatnonzero([len(one) for one in told])
    most = max((len(one) for one in told), default=0)
    numbers = {name: n for n, name in enumerate(sorted({who for one in told for _, who in one}))}
    meant, reader = np.zeros((len(rows), most, len(LEVELS))), np.zeros((len(rows), most), np.intp)
    for place, n in enumerate(rows):
        meant[place, : len(told[n])] = [m for m, _ in told[n]]
        reader[place, : len(told[n])] = [numbers[who] for _, who in told[n]]
    return _Said(meant, reader), rows


def _shares(logits: Array, said: _Said, tilts: Array) -> Array:
    """Return the probability of each rating by each reader, [n, readings, levels]."""
    tilt = tilts[said.reader][..., None]
    return np.asarray(softmax(logits[:, None] + tilt * (LEVELS - LEVELS.mean())))


def _log_each(shares: Array, said: _Said) -> Array:
    """Return the log likelihood of all readings of each nodule, weighted, [n]."""
    chance = np.where(said.there, (shares * said.meant).sum(2), 1.0)
    return np.asarray(said.weight * np.log(np.maximum(chance, 1e-12)).sum(1))


def _likelihood(logits: Array, said: _Said, share: float) -> float:
    """Return the log likelihood of the readings if a share of the nodules is read backwards.

    The tilts of the readers are the most probable ones for that share.
    """
    wrong, tilts = np.full(len(logits), share), np.zeros(said.reader.max() + 1)
    for _ in range(STEPS if share else 1):
        tilts = _tilts(logits, said, wrong, tilts, steps=3 if share else STEPS)
        shares = _shares(logits, said, tilts)
        right, back = (_log_each(part, said) for part in (shares, shares[..., ::-1]))
        if share:
            wrong = 1 / (1 + np.exp(np.clip(right - back, -50, 50)) * (1 - share) / share)
    both = np.logaddexp(right + np.log1p(-share), back + math.log(share)) if share else right
    return float(both.sum() - (tilts**2).sum() / (2 * TILT_VARIANCE))


def _tilts(logits: Array, said: _Said, wrong: Array, start: Array, steps: int = STEPS) -> Array:
    """Return the most probable tilt of each reader's ratings, [readers].

    Args:
        logits: [n, levels].
        said: by the readers.
        wrong: [n] probability that the nodule was read backwards.
        start: [readers] where to begin.
        steps: of Newton's method.
    """
    tilts, there, count = start, said.there, len(start)
    for _ in range(steps):
        shares = _shares(logits, said, tilts)
        mean = shares @ LEVELS
        variance = shares @ LEVELS**2 - mean**2
        residual = (1 - wrong)[:, None] * _excess(shares, said, mean)
        residual -= wrong[:, None] * _excess(shares[..., ::-1], said, 6 - mean)
        weight = said.weight[:, None] * there
        slope, curve = (
            np.bincount(said.reader.ravel(), (weight * part).ravel(), count)
            for part in (residual, variance)
        )
        step = (slope - tilts / TILT_VARIANCE) / (curve + 1 / TILT_VARIANCE)
        tilts = np.clip(tilts + np.clip(step, -0.5, 0.5), -MOST_TILT, MOST_TILT)
    return tilts


def _excess(shares: Array, said: _Said, mean: Array) -> Array:
    """Return by how much each reading exceeds the mean rating, [n, readings]."""
    chance = np.maximum((shares * said.meant).sum(2), 1e-12)
    told = (shares * said.meant) @ LEVELS / chance
    return np.asarray(np.where(said.there, told - mean, 0.0))
