"""Calibration after fine-tuning: what new heads need, and the habits of the site's readers.

With the parent's calibration set, what heads change moves by what changes on it; without, the
parent's constants stay (a warm start). Then four habits of the readers are read off the nodules
that trained: how severe their malignancy ratings are, how large their sizes (regressed, and
measured in the mask), and where their class begins. Each is a single number, and counts only as far
as it is shown beyond the chance of which patients were read; so few are not overfitted, and the
held-out patients stay untouched for the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from resmtnet.characteristics import MALIGNANCY, SIZES
from resmtnet.data.consensus import class_weight
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.inference.calibration import Calibration
from resmtnet.network.uncertainty import logit, sigmoid, softmax
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.samples import Sample, class_share
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.calibrate import refit_calibration
from resmtnet.types import Array

NEWTON_STEPS, LEAST_SLOPE, MOST_LOGITS = 25, 1e-6, 4.0
"""Of the fits of one number, which may not run away where all nodules are of one class."""
DRAWS = 200
"""Draws of patients behind the standard error of a median."""
CLASSES = (0.0, 1.0)
"""Class shares of benign and malignant nodules."""
UNDECIDED = 0.5
"""Class share of a nodule between the classes; the calibration is fitted to the others."""


@dataclass(frozen=True)
class Habits:
    """How a site's readers differ from what the heads and the calibration say."""

    tilt: float = 0.0
    """Added to the malignancy logits, times level - 3."""
    regressed: Mapping[str, float] = field(default_factory=dict)
    """Added to the regressed log sizes, by task."""
    class_shift: float = 0.0
    """Added to the logit of the class."""

    @property
    def biases(self) -> dict[str, Array]:
        """What moves the biases of the heads, [outputs] by task."""
        levels = len(MALIGNANCY.levels)
        tilt = self.tilt * (np.arange(1, levels + 1) - (levels + 1) / 2)
        sizes = {name: np.array([log, 0.0]) for name, log in self.regressed.items()}
        return {MALIGNANCY.name: tilt, **sizes}

    def of(self, calibration: Calibration) -> Calibration:
        """Return a calibration with these habits."""
        intercept = calibration.class_intercept + self.class_shift
        return replace(calibration, class_intercept=intercept)


def recalibrated(
    calibration: Calibration,
    kept: Sequence[CachedNodule],
    samples: Sequence[Sample],
    heads: LinearHeads,
    doubt: float,
) -> tuple[Calibration, Habits]:
    """Return the calibration of new heads, and the habits of a site that it does not hold yet.

    Args:
        calibration: of the parent.
        kept: its calibration set; may be empty.
        samples: of the site.
        heads: the new ones.
        doubt: see shrunk.
    """
    base = refit_calibration(heads.answer_all(kept), kept, calibration) if kept else calibration
    held = heads.answer_all([s.held for s in samples])
    patients = [s.patient_id for s in samples]
    habits = Habits(
        malignancy_tilt(base, held, patients, doubt),
        {t.name: regressed_shift(held, t.name, patients, doubt) for t in SIZES},
    )
    held = heads.moved(habits.biases).answer_all(held)
    return base, replace(habits, class_shift=class_shift(base, samples, held, doubt))


def shrunk(value: float, error: float, doubt: float) -> float:
    """Return what is believed of an estimate: nothing where it may be chance, most if it is sure.

    Args:
        value: the estimate.
        error: its standard error.
        doubt: standard errors that count as chance (positive-part James-Stein; Efron and Morris,
            J Am Stat Assoc 68, 1973).

    >>> shrunk(0.2, 0.1, 2.0), shrunk(0.4, 0.1, 2.0)
    (0.0, 0.30000000000000004)
    """
    if not value:
        return 0.0
    return value * max(0.0, 1 - (doubt * error / value) ** 2)


def malignancy_tilt(
    calibration: Calibration, held: Sequence[CachedNodule], patients: Sequence[str], doubt: float
) -> float:
    """Return the tilt of greatest likelihood of the readers' ratings, each nodule once, shrunk."""
    rated = [(h, p) for h, p in zip(held, patients, strict=True) if h.case.malignancy]
    if not rated:
        return 0.0
    logits = np.array([h.observation.outputs[MALIGNANCY.name] for h, _ in rated])
    told_mean = np.array([float(np.mean(h.case.malignancy)) for h, _ in rated])
    levels = np.arange(1, logits.shape[1] + 1)

    def moments(tilt: float) -> tuple[Array, Array]:
        shares = softmax((logits + tilt * levels) / calibration.malignancy_temperature)
        mean = shares @ levels
        return told_mean - mean, (shares @ levels**2 - mean**2) / calibration.malignancy_temperature

    tilt, error = _newton(moments, [p for _, p in rated])
    return shrunk(tilt, error, doubt)


def class_shift(
    calibration: Calibration, samples: Sequence[Sample], held: Sequence[CachedNodule], doubt: float
) -> float:
    """Return the shift of the class intercept of greatest likelihood, logits, shrunk."""
    rows = [
        (logit(calibration.probability_malignant(h.observation.outputs)), class_share(v), w)
        for s, h in zip(samples, held, strict=True)
        if (v := s.said.votes) and (w := class_weight(v)) and class_share(v) != UNDECIDED
    ]
    clear = [s for s in samples if s.said.votes and class_share(s.said.votes) != UNDECIDED]
    if len({share for _, share, _ in rows}) < len(CLASSES):  # one class says not where it begins
        return 0.0
    linear, share, weight = np.array(rows, float).T

    def moments(shift: float) -> tuple[Array, Array]:
        p = sigmoid(linear + shift)
        return weight * (share - p), weight * p * (1 - p)

    shift, error = _newton(moments, [s.patient_id for s in clear])
    return shrunk(shift, error, doubt)


def regressed_shift(
    held: Sequence[CachedNodule], name: str, patients: Sequence[str], doubt: float
) -> float:
    """Return what a regressed log size lacks at a site: the median of read less said, shrunk."""
    rows = [
        (np.log(h.truth[name]) - h.observation.outputs[name][0], p)
        for h, p in zip(held, patients, strict=True)
        if name in h.truth
    ]
    return _median([value for value, _ in rows], [p for _, p in rows], doubt)


def _newton(
    moments: Callable[[float], tuple[Array, Array]], patients: Sequence[str]
) -> tuple[float, float]:
    """Solve sum of residuals = 0 for one number; return it and its standard error by patient.

    Args:
        moments: of a number: residuals [N] and how fast they fall with it [N].
        patients: [N]; nodules of one patient err together (Liang and Zeger, Biometrika 1986).
    """
    value = 0.0
    for _ in range(NEWTON_STEPS):
        residual, slope = moments(value)
        step = residual.sum() / max(float(slope.sum()), LEAST_SLOPE)
        value = float(np.clip(value + np.clip(step, -1, 1), -MOST_LOGITS, MOST_LOGITS))
    residual, slope = moments(value)
    place = np.unique(patients, return_inverse=True)[1]
    error = np.sqrt((np.bincount(place, residual) ** 2).sum()) / max(slope.sum(), LEAST_SLOPE)
    return value, float(error)


def _median(values: Sequence[float] | Array, patients: Sequence[str], doubt: float) -> float:
    """Return a median, shrunk by its standard error over draws of patients."""
    if not len(values):
        return 0.0
    numbers = np.asarray(values, float)
    replicates = Resamples(patients, BootstrapConfig(resamples=DRAWS)).replicate(
        lambda truth, _: float(np.median(truth)), numbers, numbers
    )
    if not len(replicates.draws):  # too few patients to say
        return 0.0
    return shrunk(replicates.value, float(np.std(replicates.draws)), doubt)
